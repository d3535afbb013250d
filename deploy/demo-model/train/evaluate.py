"""Accuracy per skill by greedy decoding with bfloat16 weights, and the load of the experts. `evaluate.py MODEL_DIR STATE_DIR [--count N]`"""
import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer

from config import ID, STOP_IDS
from data import Packer
from model import Demo
from skills import SKILLS, images
from train import DEVICE, PATCHES, TOKENS, load, to_device

MAX_NEW = 96


def pack_all(tokenizer, examples, grown):
    """Batches of as many whole examples as fit; each as (Packer, indices)."""
    packs = []
    for i, e in enumerate(examples):
        encoded = grown[i]
        if not packs or not packs[-1][0].add(encoded):
            packs.append((Packer(tokenizer, TOKENS, PATCHES), []))
            assert packs[-1][0].add(encoded), 'one example is larger than a batch'
        packs[-1][1].append(i)
    return packs


@torch.no_grad()
def generate(model, tokenizer, examples):
    """-> generated ids of each example, and the expert load [layers, experts]. The whole text is computed again for each new
    token: slow, but it uses the very code that was trained."""
    prompts, wanted = [], []
    for e in examples:
        ids, mask, media = Packer(tokenizer, TOKENS, PATCHES).encoded(e)
        n = mask.index(1)
        prompts.append((ids[:n], media))
        wanted.append(ids[n:])
    out, open_ones, load_sum = [[] for _ in examples], list(range(len(examples))), 0
    for _ in range(MAX_NEW):
        if not open_ones:
            break
        grown = [(prompts[i][0] + out[i], [0] * (len(prompts[i][0]) + len(out[i])), prompts[i][1]) for i in open_ones]
        nxt = []
        for packer, members in pack_all(tokenizer, [examples[i] for i in open_ones], grown):
            b = to_device(packer.batch())
            hidden, routing = model(b['ids'], b['positions'], b['doc'], b['span'], (b['patches'], b['x'], b['y'], b['image'], b['cell'], b['soft_rows'].shape[0]), b['soft_rows'])
            last = torch.tensor([start + len(ids) - 1 for start, ids, *_ in packer.rows], device=DEVICE)
            z = model.logits(hidden[last])
            z[:, [ID[t] for t in ('<|image>', '<|audio>', '<|image|>', '<image|>', '<audio|>', '<|video|>')]] = -1e9
            nxt += z.argmax(-1).tolist()
            load_sum = load_sum + torch.stack([(c * (b['doc'] >= 0)[:, None]).sum(0) for _, c in routing])
        for i, token in zip(list(open_ones), nxt):
            out[i].append(token)
            # A wrong token decides an example (all answers are compared whole), so it need not go on.
            if token in STOP_IDS or token != wanted[i][len(out[i]) - 1] or len(out[i]) == len(wanted[i]):
                open_ones.remove(i)
    return out, wanted, load_sum


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument('model_dir'); args.add_argument('state_dir')
    args.add_argument('--count', type=int, default=200); args.add_argument('--json', default='')
    args.add_argument('--show', type=int, default=0)
    a = args.parse_args()
    images.FONTS[:] = images.find_fonts()
    tokenizer = Tokenizer.from_file(str(Path(a.model_dir) / 'tokenizer.json'))
    model = Demo()
    load(model, Path(a.state_dir), a.model_dir)
    model = model.bfloat16().float().to(DEVICE).eval()
    compiled = torch.compile(model, dynamic=False)
    compiled.logits = model.logits
    report, load_sum = {}, 0
    for skill, (make, *_) in SKILLS.items():
        rng = random.Random(f'eval {skill}')
        count = a.count // 4 if skill == 'needle' else a.count
        examples = [make(rng, 'eval') for _ in range(count)]
        out, wanted, used = generate(compiled, tokenizer, examples)
        good = [o == w for o, w in zip(out, wanted)]
        load_sum = load_sum + used
        report[skill] = sum(good) / count
        print(f'{skill:16} {100 * report[skill]:5.1f} %', flush=True)
        for i in [i for i, g in enumerate(good) if not g][:a.show]:
            print('   asked', repr(examples[i].turns[-1].text[-90:]), 'wanted', repr(tokenizer.decode(wanted[i], skip_special_tokens=False)[:90]), 'got', repr(tokenizer.decode(out[i], skip_special_tokens=False)[:90]))
    share = load_sum / load_sum.mean(-1, keepdim=True)
    report['expert_load_max_over_mean'] = share.max(-1).values.tolist()
    report['expert_load_min_over_mean'] = share.min(-1).values.tolist()
    print('expert load, largest / smallest over the mean, by layer:', ' '.join(f'{x:.2f}/{n:.2f}' for x, n in zip(report['expert_load_max_over_mean'], report['expert_load_min_over_mean'])))
    if a.json:
        Path(a.json).write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
