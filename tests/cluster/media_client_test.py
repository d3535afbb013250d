"""The official `openai` client sends pictures and videos to the demo model on two ranks. The answers are those recorded from the
reference.

    with_client.py ENVIRONMENT media_client_test.py --bin build/release/bin --model deploy/demo-model --cases tests/data/demo-model"""

import sys

import openai

from client_test import collect, run_tests
from demo_model_test import differences, load_case, parse_arguments, start_server

PARTS = ("messages", "model", "temperature", "max_tokens")  # the rest is no argument of the client


def ask(client, request, **options):
    plain = {key: request[key] for key in PARTS if key in request}
    extra = {key: value for key, value in request.items() if key not in PARTS}
    return client.chat.completions.create(**plain, extra_body=extra, **options)


def check_case(client, folder, name, case):
    request = load_case(folder, name, case)
    whole = ask(client, request)
    wrong = differences(case["message"], whole.choices[0].message.model_dump())
    assert not wrong, (name, wrong)
    assert whole.usage.prompt_tokens == len(case["input_ids"]), (name, whole.usage)
    texts, _, _ = collect(ask(client, request, stream=True))
    assert texts[0][1] == (whole.choices[0].message.content or ""), (name, texts)


def make_tests(folder, cases):
    def of_kind(kind):
        chosen = {name: case for name, case in cases.items() if name.startswith(kind)}
        assert chosen, f"no case of {kind}"

        def test(client, _):
            for name, case in chosen.items():
                check_case(client, folder, name, case)
        return test

    def test_refuses_what_is_no_picture(client, _):
        for kind, where in (("image_url", "image_url.url"), ("video_url", "video_url.url")):
            part = {"type": kind, kind: {"url": "data:application/octet-stream;base64,AAAA"}}
            try:
                client.chat.completions.create(
                    model="demo-model", messages=[{"role": "user", "content": [part]}])
            except openai.BadRequestError as error:
                assert error.body["param"] == "messages[0].content[0]." + where, error.body
                continue
            raise AssertionError(f"{kind} was accepted")

    return {"test_one_picture": of_kind("one_image"), "test_several_pictures": of_kind("several_images"),
            "test_video": of_kind("video"), "test_refused": test_refuses_what_is_no_picture}


def main():
    arguments, cases = parse_arguments()
    with start_server(arguments) as server:
        failed = run_tests(make_tests(arguments.cases, cases), server)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
