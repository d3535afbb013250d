"""Accuracy per skill through a running server: the same questions as evaluate.py, greedy decoding, answers compared whole.
  evaluate_http.py http://127.0.0.1:8000 [--count N] [--skills A,B] [--at-least FILE]"""
import argparse
import concurrent.futures
import json
import random
import sys
import time
import urllib.error
import urllib.request

import http_chat
from skills import SKILLS, images

DEADLINE_S = 300


def post(url, body):
    request = urllib.request.Request(url + '/v1/chat/completions', json.dumps(body).encode(), {'Content-Type': 'application/json'})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return json.load(response)['choices'][0]['message']
    except urllib.error.HTTPError as error:
        raise SystemExit(f'the server answered {error.code}: {error.read().decode()[:500]}') from error


def served_model(url):
    """The first model's name; waits for a server that is still starting."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url + '/v1/models', timeout=DEADLINE_S) as response:
                return json.load(response)['data'][0]['id']
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > give_up:
                raise SystemExit(f'{url} answered {error.code}: {error.read().decode()[:500]}') from error
        time.sleep(0.5)


def examples_of(skill, count):
    """The very examples that evaluate.py asks."""
    rng = random.Random(f'eval {skill}')
    return [SKILLS[skill][0](rng, 'eval') for _ in range(count // 4 if skill == 'needle' else count)]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('url')
    args.add_argument('--count', type=int, default=100, help='questions a skill; a quarter of it for the needle')
    args.add_argument('--skills', default=','.join(SKILLS), help='comma-separated; all unless given')
    args.add_argument('--concurrency', type=int, default=8)
    args.add_argument('--show', type=int, default=0, help='print that many wrong answers a skill')
    args.add_argument('--at-least', default='', help='JSON file {skill: share}: exit 1 where the share is missed by over a point')
    args.add_argument('--json', default='', help='write the shares to this file')
    a = args.parse_args()
    images.FONTS[:] = images.find_fonts()
    model, report = served_model(a.url), {}
    for skill in a.skills.split(','):
        examples = examples_of(skill, a.count)
        with concurrent.futures.ThreadPoolExecutor(a.concurrency) as pool:
            answers = list(pool.map(lambda e: post(a.url, http_chat.body(e, model)), examples))
        right = [http_chat.is_right(e, m) for e, m in zip(examples, answers)]
        report[skill] = sum(right) / len(right)
        print(f'{skill:16} {100 * report[skill]:5.1f} %', flush=True)
        for e, m in [(e, m) for e, m, r in zip(examples, answers, right) if not r][:a.show]:
            print('   asked', repr(e.turns[-1].text[-90:]), 'wanted', repr(e.calls or e.answer), 'got', json.dumps(m)[:200])
    if a.json:
        with open(a.json, 'w') as out:
            json.dump(report, out, indent=1)
    if a.at_least:
        with open(a.at_least) as file:
            expected = json.load(file)
        missed = {s: (share, expected[s]) for s, share in report.items() if share < expected.get(s, 0) - 0.01}
        for skill, (share, wanted) in missed.items():
            print(f'{skill}: {100 * share:.1f} %, expected {100 * wanted:.1f} %')
        sys.exit(1 if missed else 0)


if __name__ == '__main__':
    main()
