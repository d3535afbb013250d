"""Conversations to token ids with a loss mask, in the turn format that the server renders (coordinator/text/chat_format.h)."""
from dataclasses import dataclass, field

from config import ID

Q = '<|"|>'


@dataclass
class Image:
    """A picture already at a legal size: uint8 [height, width, 3]."""
    pixels: object
    stamp: str = ''          # video frames: "MM:SS"
    source: object = None    # PIL picture before it was resized to at most `budget` soft tokens
    budget: int = 280


@dataclass
class Turn:
    role: str                # system, user, model, tool
    text: str = ''
    media: list = field(default_factory=list)   # before the text, or where the text holds \0
    calls: list = field(default_factory=list)   # [(name, {argument: value})]
    thought: str = ''
    learn: bool = False      # a model turn of the past whose text is learned as well


@dataclass
class Example:
    """The answer is the last turn's model part; everything before it is prompt."""
    skill: str
    turns: list
    answer: str = ''
    spelled: int = 0         # so many first characters of the answer are written one token each, where letters matter
    thought: str = ''
    calls: list = field(default_factory=list)
    tools: list = field(default_factory=list)   # JSON schema functions
    thinking: bool = False
    responses: list = field(default_factory=list)   # of calls made before the answer: [(name, args, response text)]
    meta: dict = field(default_factory=dict)


def value(v):
    if isinstance(v, str):
        return Q + v + Q
    if isinstance(v, bool):
        return 'true' if v else 'false'
    if isinstance(v, dict):
        return '{' + ','.join(f'{k}:{value(v[k])}' for k in sorted(v, key=str.lower)) + '}'
    if isinstance(v, list):
        return '[' + ','.join(map(value, v)) + ']'
    return str(v)


def call_text(name, args):
    return f'<|tool_call>call:{name}{value(args)}<tool_call|>'


def property_text(key, p):
    parts = [f'description:{Q}{p["description"]}{Q}'] if p.get('description') else []
    kind = p['type'].upper()
    if kind == 'STRING' and 'enum' in p:
        parts.append('enum:' + value(p['enum']))
    if kind == 'ARRAY':
        parts.append(f'items:{{type:{Q}{p["items"]["type"].upper()}{Q}}}')
    return f'{key}:{{' + ','.join(parts + [f'type:{Q}{kind}{Q}']) + '}'


def declaration(tool):
    p = tool['parameters']
    props = ','.join(property_text(k, p['properties'][k]) for k in sorted(p['properties'], key=str.lower))
    required = f',required:{value(p["required"])}' if p.get('required') else ''
    body = f'properties:{{{props}}}' + required
    return (f'<|tool>declaration:{tool["name"]}{{description:{Q}{tool["description"]}{Q},'
            f'parameters:{{{body},type:{Q}OBJECT{Q}}}}}<tool|>')


def media_pieces(media):
    """Images as they are; frames of a video joined by a space, each after its stamp."""
    out = []
    for i, m in enumerate(media):
        if m.stamp:
            out += [('text', (' ' if i else '') + m.stamp + ' '), ('image', m, ID['<|video|>'])]
        else:
            out.append(('image', m, ID['<|image|>']))
    return out


def pieces(e: Example):
    """-> (prompt pieces, answer pieces): ('text', str with control strings), ('learned', the same), ('letters', str) or
    ('image', Image, soft token id)."""
    out = [('text', '<bos>')]
    turns = list(e.turns)
    system = turns.pop(0) if turns and turns[0].role == 'system' else None
    if system or e.tools or e.thinking:
        text = '<|turn>system\n' + ('<|think|>\n' if e.thinking else '') + (system.text.strip() if system else '')
        out.append(('text', text + ''.join(map(declaration, e.tools)) + '<turn|>\n'))
    for t in turns:
        out.append(('text', f'<|turn>{t.role}\n'))
        text = t.text.strip()
        if t.learn:
            out += [('learned', text + '<turn|>'), ('text', '\n')]
            continue
        if '\0' in text:
            chunks = text.split('\0')
            for i, chunk in enumerate(chunks):
                out.append(('text', chunk.strip()))
                if i < len(t.media):
                    out += media_pieces([t.media[i]])
        else:
            out += media_pieces(t.media) + [('text', text)]
        out.append(('text', '<turn|>\n'))
    out.append(('text', '<|turn>model\n'))
    if e.responses:
        done = (f'<|channel>thought\n{e.meta["early_thought"]}\n<channel|>' if e.meta.get('early_thought') else '')
        done += ''.join(call_text(n, a) for n, a, _ in e.responses)
        done += ''.join(f'<|tool_response>response:{n}{{value:{Q}{r}{Q}}}<tool_response|>' for n, _, r in e.responses)
        out.append(('text', done + ('<|channel>thought\n' if e.thinking else '')))
    elif not e.thinking:
        out.append(('text', '<|channel>thought\n<channel|>'))
    answer = ''
    if e.thinking:
        answer = ('' if e.responses else '<|channel>thought\n') + e.thought + '\n<channel|>'
    if e.calls:
        return out, [('learned', answer + ''.join(call_text(n, a) for n, a in e.calls) + '<|tool_response>')]
    return out, [('learned', answer), ('letters', e.answer[:e.spelled]), ('learned', e.answer[e.spelled:] + '<turn|>')]


def encode_text(tokenizer, kind, text):
    if kind == 'letters':
        return [tokenizer.token_to_id('▁' if c == ' ' else c) for c in text]
    return tokenizer.encode(text, add_special_tokens=False).ids if text else []


def encode(tokenizer, e: Example, soft_tokens):
    """-> ids, loss mask, [(first soft token's index, Image)]. Control strings in our own templates become control ids; the
    generators never put one into a user's text."""
    ids, mask, media = [], [], []
    prompt, answer = pieces(e)
    pending = ''     # prompt text that is encoded in one go

    def add(new, learn):
        ids.extend(new)
        mask.extend([learn] * len(new))

    def flush():
        nonlocal pending
        add(encode_text(tokenizer, 'text', pending), 0)
        pending = ''

    for p in prompt + answer:
        if p[0] == 'text':
            pending += p[1]
        elif p[0] == 'image':
            pending += '<|image>'
            flush()
            media.append((len(ids), p[1]))
            add([p[2]] * soft_tokens(p[1]), 0)
            pending = '<image|>'
        else:
            flush()
            add(encode_text(tokenizer, *p), 1)
    return ids, mask, media
