"""The bundled model answers through HTTP what the reference answers: questions of every skill, with pictures, videos, tools and
thinking, on two ranks; and a picture that is asked about twice is encoded once.

    demo_model_test.py --bin build/release/bin --model deploy/demo-model --cases tests/data/demo-model"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
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


def video_file(folder, case, form):
    """The pictures of a recorded video as a file of a container format, without loss. `form`: arguments of ffmpeg."""
    rate = case["request"]["media_io_kwargs"]["video"]["fps"]
    with tempfile.TemporaryDirectory() as made:
        for i, name in enumerate(case["images"]):
            shutil.copy(os.path.join(folder, name), os.path.join(made, f"{i}.png"))
        path = os.path.join(made, form[-1])
        subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-framerate", str(rate), "-i",
                        os.path.join(made, "%d.png"), *form[:-1], path], check=True, timeout=DEADLINE_S)
        return read_base64(path)


def check_video_files(server, folder, cases):
    """The same answer where the frames come in a file; half a file is a 400 that names its part."""
    forms = (["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p", "v.mp4"],
             ["-c:v", "libvpx-vp9", "-lossless", "1", "-pix_fmt", "yuv444p", "v.webm"])
    failed = 0
    for name, case in cases.items():
        for form in forms if name.startswith("video") else ():
            request = load_case(folder, name, case)
            [part] = [p for p in request["messages"][0]["content"] if p["type"] == "video_url"]
            data = video_file(folder, case, form)
            part["video_url"]["url"] = "data:video/mp4;base64," + data
            wrong = differences(case["message"], post(server.url, request)["choices"][0]["message"])
            if wrong:
                print(f"FAILED {name} as {form[-1]}: {wrong}")
            failed += 1 if wrong else 0
            if form[-1] != "v.mp4":
                continue
            # The list of frames is at the end of the file.
            part["video_url"]["url"] = "data:video/mp4;base64," + data[:len(data) // 8 * 4]
            try:
                post(server.url, request)
                print(f"FAILED {name} as half of {form[-1]}: accepted")
                failed += 1
            except urllib.error.HTTPError as error:
                message = json.load(error)["error"]
                if error.code != 400 or "video_url" not in message["param"]:
                    print(f"FAILED {name} as half of {form[-1]}: {error.code} {message}")
                    failed += 1
    return failed == 0


def check_control(cases):
    """The comparison sees another answer."""
    case = next(case for case in cases.values() if case["message"]["content"])
    other = {"content": case["message"]["content"] + "!"}
    return bool(differences(case["message"], other))


def parse_arguments():
    """-> the arguments and the recorded cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", required=True)
    arguments = parser.parse_args()
    with open(os.path.join(arguments.cases, "cases.json"), encoding="utf-8") as file:
        return arguments, json.load(file)["cases"]


def start_server(arguments):
    """Two ranks with the demo model, for a `with`."""
    options = ["--workers", "2", "--served-model-name", "demo-model", "--max-model-len", "8192"]
    return ServerUnderTest(arguments.bin, arguments.model, options)


def main():
    arguments, cases = parse_arguments()
    with start_server(arguments) as server:
        ok = check_control(cases) and check_answers(server, arguments.cases, cases)
        ok = ok and check_video_files(server, arguments.cases, cases)
        server.wait_until_idle()
    print("passed" if ok else "FAILED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
