"""`beryl-bench serve` against a server with planted faults: each must end with exit status 1, none must be missed.

    faults_test.py --bin build/release/bin"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from faulty_server import FaultyServer

DEADLINE_S = 60
NUM_PROMPTS = 6

# fault, first request that has it (0 and 1 verify), words that the report must hold
CASES = [
    ("status", 0, "status 500"),
    ("status", 2, "status 500"),
    ("drops-token", 0, "usage says 7"),
    ("drops-token", 4, "usage says 7"),
    ("cuts-prompt", 0, "prompt tokens were sent"),
    ("cuts-prompt", 3, "prompt tokens were sent"),
    ("cut", 2, "broken connection"),
    ("varies", 0, "two texts"),
]


def run(arguments, port, endpoint_type, json_path):
    command = [os.path.join(arguments.bin, "beryl-bench"), "serve", "--port", str(port),
               "--endpoint-type", endpoint_type, "--random-input-len", "20",
               "--random-output-len", "8", "--ignore-eos", "--num-prompts", str(NUM_PROMPTS),
               "--max-concurrency", "2", "--json", json_path]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def check(arguments, fault, fault_from, words, endpoint_type, folder):
    """What went wrong; empty: nothing."""
    path = os.path.join(folder, f"{fault}-{fault_from}-{endpoint_type}.json")
    with FaultyServer(fault, fault_from) as server:
        result = run(arguments, server.port, endpoint_type, path)
    output = result.stdout + result.stderr
    if fault is None:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        expected = {"completed": NUM_PROMPTS, "failed": 0, "total_output_tokens": 8 * NUM_PROMPTS,
                    "total_input_tokens": 20 * NUM_PROMPTS, "model_id": "faulty"}
        wrong = {k: report[k] for k, v in expected.items() if report[k] != v}
        if result.returncode != 0 or wrong:
            return f"status {result.returncode}, {wrong}\n{output}"
        return ""
    if result.returncode != 1 or words not in output:
        return f"status {result.returncode}, {words!r} wanted in\n{output}"
    if fault_from >= 2:
        with open(path, encoding="utf-8") as file:
            failed = json.load(file)["failed"]
        if failed != NUM_PROMPTS - (fault_from - 2):
            return f"{failed} failed requests reported"
    return ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    arguments = parser.parse_args()
    num_wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for endpoint_type in ("completions", "chat"):
            for fault, fault_from, words in [(None, 0, ""), *CASES]:
                problem = check(arguments, fault, fault_from, words, endpoint_type, folder)
                print(f"{endpoint_type}, {fault} from request {fault_from}: {problem or 'as expected'}")
                num_wrong += bool(problem)
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
