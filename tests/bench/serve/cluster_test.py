"""`beryl-bench serve` against a server with two ranks: exact counts, no failed request.

    cluster_test.py --bin build/release/bin --model tests/data/tiny"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cluster"))
from server_under_test import ServerUnderTest  # noqa: E402

DEADLINE_S = 60
# flags, requests, prompt tokens of each (None: pictures add some), output tokens of each
RUNS = [
    (["--endpoint-type", "completions", "--max-concurrency", "4"], 12, 100, 16),
    (["--endpoint-type", "chat", "--request-rate", "50"], 8, 60, 8),
    (["--dataset-name", "image", "--image-width", "96", "--image-height", "64",
      "--images-per-prompt", "2"], 2, None, 4),
]


def check(arguments, server, flags, num_prompts, prompt_tokens, output_tokens, path):
    command = [os.path.join(arguments.bin, "beryl-bench"), "serve", "--base-url", server.url, *flags,
               "--num-prompts", str(num_prompts), "--random-input-len", str(prompt_tokens or 40),
               "--random-output-len", str(output_tokens), "--ignore-eos", "--num-warmups", "1",
               "--json", path]
    subprocess.run(command, timeout=DEADLINE_S, check=True)
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    assert report["completed"] == num_prompts and report["failed"] == 0, report
    assert report["total_output_tokens"] == num_prompts * output_tokens, report
    if prompt_tokens is None:
        assert report["total_input_tokens"] > num_prompts * (40 + 2 * 4), report
    else:
        assert report["total_input_tokens"] == num_prompts * prompt_tokens, report
    assert report["lengths_are_exact"] and report["model_id"] == "tiny", report
    metrics = report["server_metrics"]
    assert metrics["vllm:generation_tokens_total"] == num_prompts * output_tokens, metrics
    assert metrics["vllm:num_preemptions_total"] == 0, metrics


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    options = ["--workers", "2", "--served-model-name", "tiny"]
    with tempfile.TemporaryDirectory() as folder, \
            ServerUnderTest(arguments.bin, arguments.model, options) as server:
        for run in RUNS:
            check(arguments, server, *run, os.path.join(folder, "report.json"))
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
