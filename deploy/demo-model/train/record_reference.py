"""Records what transformers computes with the demo model, in float32 on the CPU, for the parity tests:
  record_reference.py MODEL_DIR OUT_DIR
Writes cases.json, expected.safetensors and the pictures (PNG, before they are resized). The cases are questions of every
skill that training never saw, each also as a request of the chat API and the message that answers it."""
import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoProcessor, Gemma4ForConditionalGeneration

import http_chat
from chat import encode
from config import ID, STOP_IDS
from data import patches, soft_tokens
from exact_resize import resize
from skills import SKILLS, images

# skill -> number of cases
CASES = dict(talk=4, arithmetic=3, text_tasks=3, one_image=4, several_images=3, video=2, needle=3, tools=4, thinking=3)
MAX_PROMPT = 2200       # tokens; longer ones are drawn again
MAX_PICTURE_TOKENS = 300
MAX_GREEDY = 96
NUM_TOP = 64
SAMPLE_STRIDE = 16      # ids whose logits are recorded beside the largest
FEATURE_STRIDE = 8
LAST_ROWS, SPREAD_ROWS = 8, 6
ARGUMENT = re.compile(r'(\w+):(?:(<\|"\|>)(.*?)<\|"\|>|(-?\d+))', re.S)
KINDS = {ID['<|image|>']: 1, ID['<|video|>']: 2}


def draw(tokenizer, skill, count):
    """-> [(example, prompt ids, media)]"""
    rng, out = random.Random(f'record {skill}'), []
    while len(out) < count:
        example = SKILLS[skill][0](rng, 'eval')
        for picture in [m for turn in example.turns for m in turn.media]:
            height, width = picture.pixels.shape[:2]
            picture.pixels = resize(np.asarray(picture.source), height, width)
        ids, mask, media = encode(tokenizer, example, soft_tokens)
        size = mask.index(1)
        if size <= MAX_PROMPT and sum(soft_tokens(m) for _, m in media) <= MAX_PICTURE_TOKENS:
            out.append((example, ids[:size], media))
    return out


def rows_of(size):
    spread = {i * size // SPREAD_ROWS for i in range(SPREAD_ROWS)}
    return sorted(spread | set(range(max(0, size - LAST_ROWS), size)))


def vision_inputs(media):
    """Each picture's real patches, padded with positions of -1 to the longest."""
    parts = [patches(m) for _, m in media]
    longest = max(len(p) for p, *_ in parts)
    values = torch.zeros(len(parts), longest, parts[0][0].shape[1])
    where = torch.full((len(parts), longest, 2), -1)
    for i, (pixels, x, y, _) in enumerate(parts):
        values[i, :len(pixels)] = torch.from_numpy(pixels).float() / 255
        where[i, :len(pixels)] = torch.from_numpy(np.stack([x, y], -1))
    if media[0][1].stamp:
        return dict(pixel_values_videos=values[None], video_position_ids=where[None])
    return dict(pixel_values=values, image_position_ids=where)


class Recorder:
    """Runs the model and keeps the routing of every layer and the features of the pictures."""
    def __init__(self, model_dir):
        self.model = Gemma4ForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32, attn_implementation='eager').eval()
        self.routing, self.features = [], []
        self.model.model.embed_vision.register_forward_hook(lambda module, inputs, output: self.features.append(output))
        for layer in self.model.model.language_model.layers:
            layer.router.register_forward_hook(lambda module, inputs, output: self.routing.append(output[1:]))

    @torch.no_grad()
    def run(self, ids, media):
        """-> logits [tokens, vocabulary], hidden [layers + 1, tokens, hidden], top-k ids and weights [layers, tokens, k]."""
        self.routing.clear()
        self.features.clear()
        extra = {}
        if media:
            kinds = torch.tensor([[KINDS.get(i, 0) for i in ids]])
            extra = dict(vision_inputs(media), mm_token_type_ids=kinds)
        out = self.model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False, **extra)
        weights, chosen = (torch.stack([r[i].reshape(len(ids), -1) for r in self.routing]) for i in (0, 1))
        return out.logits[0], torch.stack(out.hidden_states)[:, 0], chosen, weights

    def greedy(self, ids, media):
        """-> continuation up to a stop id (included) and the margin of each choice."""
        forbidden = [ID[t] for t in ('<|image>', '<|audio>', '<|image|>', '<image|>', '<|audio|>', '<audio|>', '<|video|>')]
        chosen, margins = [], []
        while len(chosen) < MAX_GREEDY and not (chosen and chosen[-1] in STOP_IDS):
            z = self.run(ids + chosen, media)[0][-1]
            assert z.argmax().item() not in forbidden
            top = z.topk(2)
            chosen.append(top.indices[0].item())
            margins.append(round((top.values[0] - top.values[1]).item(), 5))
        return chosen, margins


def record(recorder, name, ids, media):
    """-> the case's entry of cases.json and its tensors."""
    rows = rows_of(len(ids))
    logits, hidden, chosen, weights = recorder.run(ids, media)
    picked = logits[rows]
    top = picked.topk(NUM_TOP, dim=-1)
    features = torch.cat(recorder.features) if media else None
    greedy, margins = recorder.greedy(ids, media)
    tensors = dict(
        top_logits=top.values, top_ids=top.indices.int(), logsumexp=picked.logsumexp(-1),
        every256=picked[:, ::SAMPLE_STRIDE], hidden_last2=hidden[:, rows[-2:]],
        topk_idx=chosen[:, rows].to(torch.int16), topk_weights=weights[:, rows])
    if media:
        features = features.reshape(-1, features.shape[-1])
        assert len(features) == sum(soft_tokens(m) for _, m in media), features.shape
        tensors['features'] = features[::FEATURE_STRIDE]
    entry = dict(input_ids=ids, positions=rows, images=[], greedy=greedy, greedy_margin=margins)
    return entry, {f'{name}.{key}': t.contiguous() for key, t in tensors.items()}


def message_of(text):
    """What the chat API answers when the model says `text`."""
    thought = re.search(r'<\|channel>thought\n(.*?)\n?<channel\|>', text, re.S)
    calls = [dict(name=name, arguments={key: word if quoted else int(number) for key, quoted, word, number in ARGUMENT.findall(body)})
             for name, body in re.findall(r'<\|tool_call>call:(\w+)\{(.*?)\}<tool_call\|>', text, re.S)]
    content = re.sub(r'<\|channel>.*?<channel\|>|<\|tool_call>.*?<tool_call\|>|<turn\|>|<\|tool_response>', '', text, flags=re.S)
    return dict(reasoning_content=thought.group(1) if thought else '', content=content, tool_calls=calls)


def without_pictures(body):
    """The request with a count in place of each URL; the files are beside it."""
    for message in body['messages']:
        for part in message['content'] if isinstance(message['content'], list) else []:
            if part['type'] != 'text':
                part[part['type']]['url'] = part[part['type']]['url'].count(',')
    return body


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('model_dir'); args.add_argument('out_dir')
    a = args.parse_args()
    out = Path(a.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    images.FONTS[:] = images.find_fonts()
    tokenizer = Tokenizer.from_file(str(Path(a.model_dir) / 'tokenizer.json'))
    # The other files of the folder are read as transformers reads them.
    assert AutoProcessor.from_pretrained(a.model_dir).image_token_id == ID['<|image|>']
    recorder, cases, tensors = Recorder(a.model_dir), {}, {}
    for skill, count in CASES.items():
        for number, (example, ids, media) in enumerate(draw(tokenizer, skill, count)):
            name = f'{skill}_{number}'
            cases[name], new = record(recorder, name, ids, media)
            tensors.update(new)
            for i, (_, picture) in enumerate(media):
                file = f'{name}_{i}.png'
                picture.source.save(out / file, optimize=True)
                cases[name]['images'].append(file)
                cases[name]['max_soft_tokens'] = picture.budget
            cases[name]['request'] = without_pictures(http_chat.body(example, 'demo-model'))
            cases[name]['text'] = tokenizer.decode(cases[name]['greedy'], skip_special_tokens=False)
            cases[name]['message'] = message_of(cases[name]['text'])
            print(f'{name}: {len(ids)} tokens, {len(media)} pictures, answers {cases[name]["text"]!r}', flush=True)
    (out / 'cases.json').write_text(json.dumps(dict(cases=cases)) + '\n')
    save_file(tensors, out / 'expected.safetensors')


if __name__ == '__main__':
    main()
