"""Trains the demo model on one GPU, in pieces: each call goes on from the state of the last one, the first from the
weights in MODEL_DIR if there are any.
  train.py MODEL_DIR STATE_DIR --seconds 540 --phase steady|decay
  train.py MODEL_DIR STATE_DIR --seconds 900 --phase decay --rate 0.02 --tokens 1024 --patches 0     # a last touch without a GPU"""
import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from data import Stream
from model import DTYPE, Demo
from skills import SKILLS, images

TOKENS, PATCHES = 32768, 65536
MATRIX_RATE, SCALAR_RATE, EMBED_RATE = 0.012, 2e-3, 4e-3
BALANCE = 0.01      # weight of the load-balancing loss


DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@torch.compile(disable=DEVICE == 'cpu')
def orthogonalise(g):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix; batched over leading dimensions."""
    x = g.to(DTYPE)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (K. Jordan, 2024), for the inner matrices."""
    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        """Matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes = {}
            for p in group['params']:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                state = self.state[params[0]]
                g = torch.stack([p.grad for p in params])
                m = state.setdefault('m', torch.zeros_like(g))
                m.lerp_(g, 1 - group['momentum'])
                u = orthogonalise(g.lerp(m, group['momentum']))
                rate = group['lr'] * max(1, shape[-2] / shape[-1]) ** 0.5
                torch._foreach_mul_(params, 1 - group['lr'] * 0.01)
                torch._foreach_add_(params, list(u.to(g.dtype).unbind(0)), alpha=-rate)


def optimisers(model):
    named = dict(model.named_parameters())
    matrix = [n for n, p in named.items() if p.ndim >= 2 and not any(s in n for s in ('embed_tokens', 'position_embedding', 'router'))]
    embed = [n for n in named if 'embed_tokens' in n or 'position_embedding' in n]
    rest = [n for n in named if n not in set(matrix) | set(embed)]
    pick = lambda names: [named[n] for n in names]
    return [Muon(pick(matrix), MATRIX_RATE), torch.optim.AdamW([dict(params=pick(embed), lr=EMBED_RATE), dict(params=pick(rest), lr=SCALAR_RATE)],
                                                               betas=(0.9, 0.98), weight_decay=0.0, fused=DEVICE == 'cuda')]


def loss_of(model, forward, b):
    media = (b['patches'], b['x'], b['y'], b['image'], b['cell'], b['soft_rows'].shape[0]) if len(b['soft_rows']) else None
    hidden, routing = forward(b['ids'], b['positions'], b['doc'], b['span'], media, b['soft_rows'])
    rows = b['learned']
    z, target, weight = model.logits(hidden[rows]), b['ids'][rows + 1], b['learn'][rows + 1].float()
    ce = (F.cross_entropy(z, target, reduction='none') * weight).sum() / weight.sum()
    real = (b['doc'] >= 0).float()[:, None]
    balance = 0
    for p, chosen in routing:
        load = (chosen * real).sum(0) / real.sum() / chosen.shape[-1] * (chosen.shape[-1] / 4)
        mean = (p * real).sum(0) / real.sum()
        balance = balance + (load * mean).sum() * chosen.shape[-1]
    return ce, balance / len(routing), z.argmax(-1) == target


def right_by_skill(b, correct):
    """-> [skills, 2]: examples all of whose learned tokens would be chosen, and examples."""
    whole = torch.ones(len(b['skill']), device=DEVICE).scatter_reduce(0, b['doc'][b['learned']].long(), correct.float(), 'amin')
    return torch.zeros(len(SKILLS), 2, device=DEVICE).index_add(0, b['skill'], torch.stack([whole, torch.ones_like(whole)], -1))


def to_device(batch):
    b = {k: v.to(DEVICE, non_blocking=True) for k, v in batch.items() if k != 'num_cells'}
    # Unused pooled cells write a row that no example reads: the last one.
    n = int(batch['num_cells'])
    b['soft_rows'][n:] = len(b['ids']) - 1
    return b


def save(model, folder: Path, meta):
    """float32 state in pieces below 12 MB each."""
    folder.mkdir(parents=True, exist_ok=True)
    part, size, index = {}, 0, 0
    for name, tensor in model.state_dict().items():
        part[name] = tensor.float().cpu().contiguous()
        size += tensor.numel() * 4
        if size > 9e6:
            save_file(part, folder / f'state-{index}.safetensors')
            part, size, index = {}, 0, index + 1
    save_file(part, folder / f'state-{index}.safetensors')
    (folder / 'meta.json').write_text(json.dumps(meta))


def load(model, folder: Path, model_dir=None):
    """The saved state; without one the published bfloat16 weights of `model_dir` if there are any; else nothing."""
    state, meta = {}, dict(steps=0, seconds=0)
    for path in sorted(folder.glob('state-*.safetensors')):
        state.update(load_file(path))
        meta = json.loads((folder / 'meta.json').read_text())
    if not state and model_dir:
        for path in sorted(Path(model_dir).glob('model-*.safetensors')):
            state.update({name.removeprefix('model.'): t.float() for name, t in load_file(path).items()})
    if state:
        model.load_state_dict(state)
    return meta


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument('model_dir'); args.add_argument('state_dir')
    args.add_argument('--seconds', type=float, default=540); args.add_argument('--phase', default='steady')
    args.add_argument('--workers', type=int, default=max(1, (os.cpu_count() or 2) - 2)); args.add_argument('--shares', default='{}', help='JSON: other shares of the skills')
    args.add_argument('--tokens', type=int, default=TOKENS, help='rows of a batch'); args.add_argument('--patches', type=int, default=PATCHES)
    args.add_argument('--rate', type=float, default=1.0, help='factor of the learning rates'); args.add_argument('--every', type=int, default=250, help='steps between reports')
    args.add_argument('--profile', type=int, default=0, help='step after which three are profiled')
    a = args.parse_args()
    begin = time.time()
    fonts = images.find_fonts()
    shares = {n: s for n, (_, s, _) in SKILLS.items()} | json.loads(a.shares)
    torch.manual_seed(1)
    torch.set_float32_matmul_precision('high')
    model = Demo()
    meta = load(model, Path(a.state_dir), a.model_dir)
    stream = Stream(a.model_dir, fonts, meta['steps'] + 1, a.tokens, a.patches, shares, a.workers)
    model = model.to(DEVICE)
    forward = torch.compile(model, dynamic=False, disable=DEVICE == 'cpu')
    opts = optimisers(model)
    rates = [[g['lr'] for g in o.param_groups] for o in opts]
    step, waited, total, right = 0, 0.0, torch.zeros(2, device=DEVICE), torch.zeros(len(SKILLS), 2, device=DEVICE)
    train_from, profiler = None, None
    while True:
        t = time.time()
        batch = stream.next()
        waited += time.time() - t
        elapsed = time.time() - (train_from or time.time())
        done = elapsed / max(1.0, a.seconds - ((train_from or begin) - begin))
        scale = a.rate * min(1, (step + 1) / 100) * (max(0.0, 1 - done) if a.phase == 'decay' else 1.0)
        for o, lr in zip(opts, rates):
            for g, r in zip(o.param_groups, lr):
                g['lr'] = r * scale
        if a.profile and step == a.profile:
            profiler = torch.profiler.profile()
            profiler.start()
        b = to_device(batch)
        ce, balance, correct = loss_of(model, forward, b)
        (ce + BALANCE * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
            o.zero_grad(set_to_none=True)
        total += torch.stack([ce.detach(), balance.detach()])
        if step % 10 == 0:
            right += right_by_skill(b, correct)
        step += 1
        if profiler and step == a.profile + 3:
            torch.cuda.synchronize()
            profiler.stop()
            print(profiler.key_averages().table(sort_by='cuda_time_total', row_limit=25, max_name_column_width=60), flush=True)
            profiler = None
        if step == 5:
            train_from = time.time()
            print(f'ready after {train_from - begin:.0f} s, {len(fonts)} fonts', flush=True)
        if step % a.every == 0:
            ce_mean, balance_mean = (total / a.every).tolist()
            total.zero_()
            print(f'step {meta["steps"] + step} loss {ce_mean:.4f} balance {balance_mean:.3f} {step / (time.time() - train_from):.1f} steps/s, waited {waited:.0f} s | '
                  + ' '.join(f'{name} {100 * good / max(1, n):.0f}' for name, (good, n) in zip(SKILLS, right.tolist())), flush=True)
            right.zero_()
        if time.time() - begin > a.seconds:
            break
    stream.close()
    save(model, Path(a.state_dir), dict(steps=meta['steps'] + step, seconds=meta['seconds'] + time.time() - begin))
    print(f'saved after {step} steps', flush=True)


if __name__ == '__main__':
    main()
