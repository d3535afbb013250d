"""The official `openai` client against a real two-rank cluster. The model's answers are noise, so
what is checked is form, agreement between ways to ask for the same, and what is given back.

    with_client.py ENVIRONMENT client_test.py --bin build/release/bin --model tests/data/tiny"""

import argparse
import sys
import time
import traceback

import openai

from server_under_test import ServerUnderTest

MODEL = "tiny"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, you"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    },
}


def chat(client, **options):
    defaults = {"model": MODEL, "messages": MESSAGES, "max_tokens": 24, "seed": 7}
    return client.chat.completions.create(**{**defaults, **options})


def collect(stream):
    """(text by choice, finish reason by choice, usage) of a chat stream."""
    texts, reasons, usage, last_id = {}, {}, None, None
    for chunk in stream:
        assert last_id in (None, chunk.id), "one id a stream"
        last_id = chunk.id
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thinking = getattr(choice.delta, "reasoning_content", None) or ""
            text = choice.delta.content or ""
            before = texts.setdefault(choice.index, ["", ""])
            before[0] += thinking
            before[1] += text
            if choice.finish_reason:
                assert choice.index not in reasons, "one finish reason a choice"
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, usage


def test_models(client, _):
    [model] = client.models.list().data
    assert model.id == MODEL, model
    assert client.models.retrieve(MODEL).id == MODEL


def test_chat_not_streamed(client, _):
    answer = chat(client)
    [choice] = answer.choices
    assert answer.object == "chat.completion" and answer.id and answer.model == MODEL, answer
    assert choice.message.role == "assistant", choice
    assert choice.finish_reason in ("stop", "length", "tool_calls"), choice
    usage = answer.usage
    assert 0 < usage.completion_tokens <= 24 and usage.prompt_tokens > 0, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def test_chat_streamed_says_the_same(client, _):
    for temperature in (0, 1):
        whole = chat(client, temperature=temperature)
        texts, reasons, usage = collect(
            chat(client, temperature=temperature, stream=True,
                 stream_options={"include_usage": True}))
        message = whole.choices[0].message
        assert texts[0][1] == (message.content or ""), (texts, message)
        assert texts[0][0] == (getattr(message, "reasoning_content", None) or ""), (texts, message)
        assert reasons[0] == whole.choices[0].finish_reason, reasons
        assert usage.completion_tokens == whole.usage.completion_tokens, usage


def test_same_seed_same_answer(client, _):
    first, second, other = (chat(client, temperature=1, seed=seed) for seed in (3, 3, 4))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.choices[0].message.content != other.choices[0].message.content


def test_three_choices(client, _):
    answer = chat(client, n=3, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2], answer
    contents = [choice.message.content for choice in answer.choices]
    assert len(set(contents)) > 1, contents
    texts, reasons, _ = collect(chat(client, n=3, temperature=1, stream=True))
    assert sorted(texts) == sorted(reasons) == [0, 1, 2], (texts, reasons)
    assert [texts[i][1] for i in range(3)] == [c or "" for c in contents], (texts, contents)


def test_logprobs(client, _):
    answer = chat(client, logprobs=True, top_logprobs=3, temperature=0)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens or answer.choices[0].finish_reason == "stop"
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3, entry
        assert entry.top_logprobs[0].logprob == entry.logprob, "greedy takes the likeliest"
        logprobs = [top.logprob for top in entry.top_logprobs]
        assert logprobs == sorted(logprobs, reverse=True), logprobs
        assert entry.bytes is not None, entry


def test_stop_string(client, _):
    options = {"model": MODEL, "prompt": "one two three", "max_tokens": 60, "temperature": 0}
    whole = client.completions.create(**options, extra_body={"ignore_eos": True}).choices[0].text
    assert len(whole) > 10, whole
    stop = whole[len(whole) // 2:len(whole) // 2 + 3]
    expected = whole[:whole.index(stop)]
    cut = client.completions.create(**options, stop=[stop], extra_body={"ignore_eos": True})
    assert cut.choices[0].text == expected, (cut.choices[0].text, expected)
    assert cut.choices[0].finish_reason == "stop"
    streamed = "".join(
        chunk.choices[0].text for chunk in client.completions.create(
            **options, stop=stop, stream=True, extra_body={"ignore_eos": True}) if chunk.choices)
    assert streamed == expected, (streamed, expected)


def test_completions(client, _):
    answer = client.completions.create(model=MODEL, prompt="one two", max_tokens=8, temperature=0,
                                       extra_body={"ignore_eos": True})
    assert answer.object == "text_completion", answer
    assert answer.usage.completion_tokens == 8 and answer.choices[0].finish_reason == "length"
    chunks = list(client.completions.create(
        model=MODEL, prompt="one two", max_tokens=8, temperature=0, stream=True,
        extra_body={"ignore_eos": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].text, (text, answer)


def test_tools_declared(client, _):
    plain = chat(client)
    answer = chat(client, tools=[TOOL], tool_choice="auto")
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens, "the declaration is in the prompt"
    for call in answer.choices[0].message.tool_calls or []:
        assert call.function.name and call.type == "function", call
    turns = MESSAGES + [
        {"role": "assistant", "content": None, "tool_calls": [{
            "id": "call_1", "type": "function",
            "function": {"name": "get_weather", "arguments": '{"place": "Oslo", "days": 2}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    assert chat(client, messages=turns, tools=[TOOL]).choices[0].finish_reason


def test_cancelled_stream_gives_everything_back(client, server):
    stream = chat(client, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    # Gauges are refreshed a few times a second.
    end = time.monotonic() + 2
    while not (server.metric("vllm:num_requests_running") == 1
               and server.metric("vllm:kv_cache_usage_perc") > 0):
        assert time.monotonic() < end, server.metrics()
        time.sleep(0.02)
    stream.close()
    closed = time.monotonic()
    server.wait_until_idle(5)
    print(f"    blocks back {time.monotonic() - closed:.3f} s after the client left")


def test_errors(client, _):
    for kind, options in (
            (openai.NotFoundError, {"model": "no-such-model"}),
            (openai.BadRequestError, {"temperature": -1}),
            (openai.BadRequestError, {"messages": []}),
            (openai.BadRequestError, {"max_tokens": 0}),
            (openai.BadRequestError, {"top_logprobs": 3}),
            (openai.BadRequestError, {"n": 0})):
        try:
            chat(client, **options)
        except kind as error:
            assert error.body and error.body["message"], error.body
            if kind is openai.BadRequestError:
                assert error.body["param"], error.body
            continue
        raise AssertionError(f"no {kind.__name__} for {options}")


def run_tests(tests, server):
    """Runs {name: test} against `server`; how many failed."""
    failed = 0
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)
    for name, test in sorted(tests.items()):
        begin = time.monotonic()
        try:
            test(client, server)
            print(f"passed {name} ({time.monotonic() - begin:.2f} s)", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"FAILED {name}", flush=True)
            traceback.print_exc(file=sys.stdout)
    server.wait_until_idle()
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", help="the tests whose name contains this")
    arguments = parser.parse_args()
    tests = {name: test for name, test in globals().items() if name.startswith("test_")
             and (not arguments.only or arguments.only in name)}
    options = ["--workers", "2", "--served-model-name", MODEL]
    with ServerUnderTest(arguments.bin, arguments.model, options) as server:
        failed = run_tests(tests, server)
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
