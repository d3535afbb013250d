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
# Share of all expected events after which the fault comes. Early, because this client may lag behind
# the server, which would be done before it is hit.
FAULT_AT = 0.1
REBUILD_DEADLINE_S = 90


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


async def run_streams(url, recordings, on_progress=None):
    tasks = [asyncio.create_task(record_completion(url, body, recording))
             for body, recording in zip(bodies(), recordings)]
    watcher = asyncio.create_task(on_progress()) if on_progress else None
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if watcher:
            await watcher


def faults(server):
    for name, number in (("kill -9", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP)):
        for target in ("rank 0", "rank 1", "mpirun"):
            find = server.mpirun if target == "mpirun" else (
                lambda rank=int(target[-1]): server.worker(rank))
            # A stopped mpirun does not hinder its ranks: nothing has to be rebuilt.
            needs_rebuild = not (target == "mpirun" and number == signal.SIGSTOP)
            yield f"{name} {target}", find, number, needs_rebuild


async def inject(server, recordings, total_events, pid, number, moment):
    """Waits until the streams are well under way, then sends the signal."""
    while sum(len(r.times) for r in recordings) < FAULT_AT * total_events:
        if all(r.finish_reason for r in recordings):
            raise AssertionError("the streams ended before the fault")
        await asyncio.sleep(0.002)
    moment.append(time.monotonic())
    os.kill(pid, number)


def check_fault(server, expected, fault):
    name, find, number, needs_rebuild = fault
    pid = find()
    recordings = [Recording() for _ in range(NUM_STREAMS)]
    total_events = sum(len(r.times) for r in expected)
    moment = []
    asyncio.run(run_streams(
        server.url, recordings,
        lambda: inject(server, recordings, total_events, pid, number, moment)))
    report = "no rebuild needed"
    if needs_rebuild:
        lost, _ = server.wait_for_log(r"group 0 is lost|its job ended", 1, after=moment[0])
        ready, _ = server.wait_for_log(r"group 0 is ready", REBUILD_DEADLINE_S, after=moment[0])
        after = [t for r in recordings for t in r.times if t > ready]
        last = max(t for r in recordings for t in r.times)
        assert after, (f"{name}: no stream went on, the fault came too late: lost "
                       f"{lost - moment[0]:.2f} s, ready {ready - moment[0]:.2f} s, last event "
                       f"{last - moment[0]:.2f} s after it")
        report = (f"detected {lost - moment[0]:.2f} s, rebuilt {ready - moment[0]:.2f} s, "
                  f"first token {min(after) - moment[0]:.2f} s")
    elif number == signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
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
