"""The bundled model answers through HTTP what the reference answers: questions of every skill, with pictures, videos, tools and
thinking, on two ranks; and a picture that is asked about twice is encoded once.

    demo_model_test.py --bin build/release/bin --model deploy/demo-model --cases tests/data/demo-model"""

import argparse
import base64
import json
import os
import sys
import urllib.request

from server_under_test import ServerUnderTest

DEADLINE_S = 120


def load_case(folder, name, case):
    """The request of a recorded case, its pictures put in."""
    request = json.loads(json.dumps(case["request"]))
    files = [os.path.join(folder, file) for file in case["images"]]
    for message in request["messages"]:
        if not isinstance(message["content"], list):
            continue
        for part in message["content"]:
            if part["type"] == "text":
                continue
            media = part[part["type"]]
            taken, files = files[:media["url"]], files[media["url"]:]
            kind = "image/png" if part["type"] == "image_url" else "video/jpeg"
            media["url"] = f"data:{kind};base64," + ",".join(map(read_base64, taken))
    assert not files, f"{name}: {len(files)} pictures are left over"
    return request


def read_base64(file):
    with open(file, "rb") as picture:
        return base64.b64encode(picture.read()).decode()


def post(url, body):
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
        return json.load(response)


def differences(expected, message):
    """What of an assistant's message is not as the reference says it."""
    calls = [{"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
             for call in message.get("tool_calls") or []]
    found = {"reasoning_content": (message.get("reasoning_content") or "").strip(),
             "content": (message.get("content") or "").strip(), "tool_calls": calls}
    return {key: (found[key], expected[key]) for key in found if found[key] != expected[key]}


def check_answers(server, folder, cases):
    failed = 0
    for name, case in cases.items():
        answer = post(server.url, load_case(folder, name, case))
        wrong = differences(case["message"], answer["choices"][0]["message"])
        # The prompt is rendered, tokenized and its pictures are resized as for the reference.
        if answer["usage"]["prompt_tokens"] != len(case["input_ids"]):
            wrong["prompt_tokens"] = answer["usage"]["prompt_tokens"], len(case["input_ids"])
        for what, (found, expected) in wrong.items():
            print(f"FAILED {name}: {what} {found!r}, expected {expected!r}")
        failed += 1 if wrong else 0
    print(f"{len(cases) - failed} of {len(cases)} answers as recorded")
    return failed == 0


def check_control(cases):
    """The comparison sees another answer."""
    case = next(case for case in cases.values() if case["message"]["content"])
    other = {"content": case["message"]["content"] + "!"}
    return bool(differences(case["message"], other))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", required=True)
    arguments = parser.parse_args()
    with open(os.path.join(arguments.cases, "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    options = ["--workers", "2", "--served-model-name", "demo-model", "--max-model-len", "8192"]
    with ServerUnderTest(arguments.bin, arguments.model, options) as server:
        ok = check_control(cases) and check_answers(server, arguments.cases, cases)
        server.wait_until_idle()
    print("passed" if ok else "FAILED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
