"""64 concurrent streams with random cancels: no error, every block comes back, memory does not grow.

    load_test.py --bin build/release/bin --model tests/data/tiny --seconds 60"""

import argparse
import asyncio
import random
import sys
import time

from server_under_test import ServerUnderTest
from stream_client import Stream, StreamError

NUM_CLIENTS = 64
CANCEL_SHARE = 0.25
WARM_UP_S = 10
# Resident memory at the end against that after the warm-up.
MAX_GROWTH = 1.02
# Shorter runs end within the warm-up: allocators still reach their level.
MAX_GROWTH_SHORT = 1.15
SHORT_S = 30


class Totals:
    def __init__(self):
        self.finished = 0
        self.cancelled = 0
        self.events = 0
        self.errors = []


def random_body(rng):
    prompt = " ".join(rng.choice(("one", "two", "three", "four")) for _ in range(rng.randint(1, 60)))
    body = {
        "model": "tiny",
        "max_tokens": rng.randint(1, 100),
        "temperature": rng.choice((0, 1)),
        "seed": rng.randrange(1 << 30),
    }
    if rng.random() < 0.5:
        return "/v1/completions", {**body, "prompt": prompt}
    return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": prompt}]}


async def client(url, rng, end, totals):
    while time.monotonic() < end:
        path, body = random_body(rng)
        cancel_after = rng.randint(0, 20) if rng.random() < CANCEL_SHARE else None
        stream = Stream(url, path, body)
        seen = 0
        try:
            await stream.open()
            if cancel_after != 0:
                async for _ in stream:
                    seen += 1
                    if seen == cancel_after:
                        break
            if stream.finished:
                totals.finished += 1
            else:
                totals.cancelled += 1
        except (StreamError, OSError, asyncio.TimeoutError, ValueError) as error:
            totals.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.1)
        finally:
            totals.events += seen
            stream.cut_off()


async def run_clients(server, seconds, seed, totals):
    """Returns resident bytes after the warm-up and at the end, all clients still running."""
    start = time.monotonic()
    end = start + seconds
    warm_up = min(WARM_UP_S, seconds / 2)
    clients = [asyncio.create_task(client(server.url, random.Random(seed * 1000 + i), end + 1, totals))
               for i in range(NUM_CLIENTS)]
    await asyncio.sleep(warm_up)
    loop = asyncio.get_running_loop()
    before = await loop.run_in_executor(None, server.resident_bytes)
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    after = await loop.run_in_executor(None, server.resident_bytes)
    await asyncio.gather(*clients)
    return before, after


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    totals = Totals()
    options = ["--workers", "2", "--served-model-name", "tiny"]
    with ServerUnderTest(arguments.bin, arguments.model, options) as server:
        before, after = asyncio.run(run_clients(server, arguments.seconds, arguments.seed, totals))
        server.wait_until_idle()
    limit = MAX_GROWTH if arguments.seconds >= SHORT_S else MAX_GROWTH_SHORT
    growth = after / before
    print(f"{totals.finished} streams finished, {totals.cancelled} cancelled, "
          f"{totals.events} events, {len(totals.errors)} errors in {arguments.seconds:.0f} s")
    print(f"resident {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB: {growth:.4f} x "
          f"(limit {limit})")
    for line in totals.errors[:10]:
        print("   ", line)
    ok = not totals.errors and growth <= limit and totals.finished > 0 and totals.cancelled > 0
    print("passed" if ok else "FAILED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
