"""kill -9 and SIGSTOP of each rank and of mpirun while 32 streams run (half greedy, half seeded):
every stream ends with the text it has without a fault.

    fault_test.py --bin build/release/bin --model tests/data/tiny"""

import argparse
import asyncio
import os
import signal
import sys
import time

from server_under_test import ServerUnderTest
from stream_client import Recording, record_completion

NUM_STREAMS = 32
NUM_TOKENS = 600
# Tokens the server has made when the fault comes: well under way, far from done.
TOKENS_BEFORE_FAULT = 8 * NUM_STREAMS
REBUILD_DEADLINE_S = 90
# A fault that came when the server was already done proves nothing: it is repeated.
MAX_ATTEMPTS = 5


def bodies():
    """One request a stream: different prompts, every second one sampled with a seed."""
    for i in range(NUM_STREAMS):
        yield {
            "model": "tiny",
            "prompt": f"{i} " + "one two three four five "[: 5 + i % 19],
            "max_tokens": NUM_TOKENS,
            "ignore_eos": True,
            "temperature": 0 if i % 2 == 0 else 1,
            "seed": 1000 + i,
        }


def differences(expected, recordings):
    """Lines about the streams that did not end as they would have without a fault."""
    lines = []
    for i, (want, got) in enumerate(zip(expected, recordings)):
        if got.finish_reason != want.finish_reason or got.usage != want.usage:
            lines.append(f"stream {i}: ended {got.finish_reason} {got.usage}, "
                         f"expected {want.finish_reason} {want.usage}")
        if got.text != want.text:
            same = next((k for k, (a, b) in enumerate(zip(got.text, want.text)) if a != b),
                        min(len(got.text), len(want.text)))
            lines.append(f"stream {i}: differs at character {same} of {len(want.text)}: "
                         f"{got.text[same:same + 20]!r}, expected {want.text[same:same + 20]!r}")
    return lines


def starting_over(recording, events):
    """The recording as a server would make it that starts over from the prompt after a fault: what
    was sent before, and then everything again. A control: `differences` must see it."""
    copy = Recording()
    sent = len(recording.text) * events // max(1, len(recording.times))
    copy.text = recording.text[:sent] + recording.text
    copy.finish_reason, copy.usage = recording.finish_reason, recording.usage
    return copy


async def run_streams(url, recordings, inject=None):
    """All streams to their ends. `inject` blocks, in a thread of its own: the server does not wait
    for a client that lags behind, so the fault must not wait for it either."""
    tasks = [asyncio.create_task(record_completion(url, body, recording))
             for body, recording in zip(bodies(), recordings)]
    injector = asyncio.create_task(asyncio.to_thread(inject)) if inject else None
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if injector:
            await injector


def faults(server):
    for name, number in (("kill -9", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP)):
        for target in ("rank 0", "rank 1", "mpirun"):
            find = server.mpirun if target == "mpirun" else (
                lambda rank=int(target[-1]): server.worker(rank))
            # A stopped mpirun does not hinder its ranks: nothing has to be rebuilt.
            needs_rebuild = not (target == "mpirun" and number == signal.SIGSTOP)
            yield f"{name} {target}", find, number, needs_rebuild


def inject(server, pid, number):
    """Sends the signal as soon as the streams are well under way, by the server's own count.
    Returns when that was."""
    name = "vllm:generation_tokens_total"
    begin = server.metric(name)
    end = time.monotonic() + REBUILD_DEADLINE_S
    while server.metric(name) < begin + TOKENS_BEFORE_FAULT:
        if time.monotonic() > end:
            raise AssertionError(f"the streams did not get under way in {REBUILD_DEADLINE_S} s")
        time.sleep(0.002)
    moment = time.monotonic()
    os.kill(pid, number)
    return moment


def run_with_fault(server, find, number):
    """Returns (recordings, the process hit, when)."""
    recordings = [Recording() for _ in range(NUM_STREAMS)]
    moment = []
    pid = find()
    asyncio.run(run_streams(
        server.url, recordings, lambda: moment.append(inject(server, pid, number))))
    return recordings, pid, moment[0]


def check_fault(server, expected, fault):
    name, find, number, needs_rebuild = fault
    for _ in range(MAX_ATTEMPTS):
        recordings, pid, moment = run_with_fault(server, find, number)
        if not needs_rebuild:
            report = "no rebuild needed"
            os.kill(pid, signal.SIGCONT)
            break
        lost, _ = server.wait_for_log(r"group 0 is lost|its job ended", 10, after=moment)
        ready, _ = server.wait_for_log(r"group 0 is ready", REBUILD_DEADLINE_S, after=moment)
        after = [t for r in recordings for t in r.times if t > ready]
        if after:
            report = (f"detected {lost - moment:.2f} s, rebuilt {ready - moment:.2f} s, "
                      f"first token {min(after) - moment:.2f} s")
            break
        print(f"{name}: the fault came after the last token, once more", flush=True)
    else:
        print(f"{name}: no stream went on after the fault in {MAX_ATTEMPTS} attempts")
        return False
    wrong = differences(expected, recordings)
    print(f"{name}: {report}; {NUM_STREAMS - len(wrong)} of {NUM_STREAMS} streams as expected",
          flush=True)
    for line in wrong[:5]:
        print("   ", line)
    server.wait_until_idle()
    return not wrong


def check_control(expected):
    """The comparison sees a server that starts over, in every stream and wherever it happens."""
    for events in (1, NUM_TOKENS // 3, NUM_TOKENS - 1):
        mutated = [starting_over(recording, events) for recording in expected]
        seen = differences(expected, mutated)
        if len(seen) < sum(1 for r in expected if len(r.text) > 3):
            print(f"the planted start over after {events} events was not seen: {seen}")
            return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", help="the faults whose name contains this")
    arguments = parser.parse_args()
    options = ["--workers", "2", "--served-model-name", "tiny"]
    with ServerUnderTest(arguments.bin, arguments.model, options) as server:
        expected = [Recording() for _ in range(NUM_STREAMS)]
        asyncio.run(run_streams(server.url, expected))
        again = [Recording() for _ in range(NUM_STREAMS)]
        asyncio.run(run_streams(server.url, again))
        ok = check_control(expected)
        for line in differences(expected, again):
            print("without a fault:", line)
            ok = False
        for fault in faults(server):
            if not arguments.only or arguments.only in fault[0]:
                ok = check_fault(server, expected, fault) and ok
    print("passed" if ok else "FAILED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
