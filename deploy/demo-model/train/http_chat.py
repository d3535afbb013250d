"""An example as a request of the server's chat API, and whether the answer is the expected one."""
import base64
import io
import json

CALL_ID = 'call_1'


def png_base64(image):
    """The picture as it was before resizing, which is the server's work."""
    data = io.BytesIO()
    image.source.save(data, 'PNG')
    return base64.b64encode(data.getvalue()).decode()


def picture_part(image):
    return dict(type='image_url', image_url=dict(url='data:image/png;base64,' + png_base64(image)))


def video_part(frames):
    """The comma-separated form; a server tells the format of a picture by its content."""
    return dict(type='video_url', video_url=dict(url='data:video/jpeg;base64,' + ','.join(map(png_base64, frames))))


def frames_per_second(frames):
    seconds = [60 * int(m.stamp[:2]) + int(m.stamp[3:]) for m in frames]
    return 1 / (seconds[1] - seconds[0])


def text_part(text):
    return dict(type='text', text=text)


def user_content(turn):
    """A string, or parts where the turn has pictures: before the text, or where the text holds \\0."""
    if not turn.media:
        return turn.text
    if turn.media[0].stamp:
        return [video_part(turn.media), text_part(turn.text)]
    if '\0' not in turn.text:
        return [picture_part(m) for m in turn.media] + [text_part(turn.text)]
    parts = []
    for i, chunk in enumerate(turn.text.split('\0')):
        if chunk:
            parts.append(text_part(chunk))
        if i < len(turn.media):
            parts.append(picture_part(turn.media[i]))
    return parts


def body(example, model):
    """The JSON body of POST /v1/chat/completions."""
    messages = []
    for turn in example.turns:
        role = 'assistant' if turn.role == 'model' else turn.role
        messages.append(dict(role=role, content=user_content(turn)))
    for name, arguments, response in example.responses:
        call = dict(id=CALL_ID, type='function', function=dict(name=name, arguments=json.dumps(arguments)))
        messages.append(dict(role='assistant', content=None, tool_calls=[call]))
        messages.append(dict(role='tool', tool_call_id=CALL_ID, content=response))
    out = dict(model=model, messages=messages, temperature=0, max_tokens=256)
    if example.tools:
        out['tools'] = [dict(type='function', function=tool) for tool in example.tools]
    if example.thinking:
        out['chat_template_kwargs'] = dict(enable_thinking=True)
    media = [m for turn in example.turns for m in turn.media]
    if media and media[0].stamp:
        out['media_io_kwargs'] = dict(video=dict(fps=frames_per_second(media)))
    elif media:
        out['mm_processor_kwargs'] = dict(max_soft_tokens=media[0].budget)
    return out


def is_right(example, message):
    """Whether the assistant's message says what the example expects, wholly."""
    calls = [(c['function']['name'], json.loads(c['function']['arguments'])) for c in message.get('tool_calls') or []]
    if calls != [(name, arguments) for name, arguments in example.calls]:
        return False
    if (message.get('reasoning_content') or '').strip() != example.thought.strip():
        return False
    return bool(example.calls) or (message.get('content') or '').strip() == example.answer.strip()
