"""Trains the demo model on one GPU, in pieces: each call goes on from the state of the last one, the first from the
weights in MODEL_DIR if there are any.
  train.py MODEL_DIR STATE_DIR --seconds 540 --phase steady|decay"""
import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from data import Stream
from model import Demo
from skills import SKILLS, images

TOKENS, PATCHES = 32768, 40960
MATRIX_RATE, SCALAR_RATE, EMBED_RATE = 0.012, 2e-3, 4e-3
BALANCE = 0.01      # weight of the load-balancing loss


@torch.compile
def orthogonalise(g):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix; batched over leading dimensions."""
    x = g.bfloat16()
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
                                                               betas=(0.9, 0.98), weight_decay=0.0, fused=True)]


def loss_of(model, forward, b):
    hidden, routing = forward(b['ids'], b['positions'], b['doc'], b['span'], (b['patches'], b['x'], b['y'], b['image'], b['cell'], b['soft_rows'].shape[0]), b['soft_rows'])
    rows = (b['learn'][1:] == 1).nonzero()[:, 0]
    ce = F.cross_entropy(model.logits(hidden[rows]), b['ids'][rows + 1])
    real = (b['doc'] >= 0).float()[:, None]
    balance = 0
    for p, chosen in routing:
        load = (chosen * real).sum(0) / real.sum() / chosen.shape[-1] * (chosen.shape[-1] / 4)
        mean = (p * real).sum(0) / real.sum()
        balance = balance + (load * mean).sum() * chosen.shape[-1]
    return ce, balance / len(routing)


def to_device(batch):
    b = {k: v.cuda(non_blocking=True) for k, v in batch.items() if k != 'num_cells'}
    # Unused pooled cells write a row that no example reads: the last one.
    n = int(batch['num_cells'])
    b['soft_rows'][n:] = TOKENS - 1
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
    args.add_argument('--workers', type=int, default=max(1, (os.cpu_count() or 2) - 2)); args.add_argument('--shares', default='{}')
    a = args.parse_args()
    begin = time.time()
    fonts = images.find_fonts()
    shares = {n: s for n, (_, s) in SKILLS.items()} | json.loads(a.shares)
    torch.manual_seed(1)
    torch.set_float32_matmul_precision('high')
    model = Demo()
    meta = load(model, Path(a.state_dir), a.model_dir)
    stream = Stream(a.model_dir, fonts, meta['steps'] + 1, TOKENS, PATCHES, shares, a.workers)
    model = model.cuda()
    forward = torch.compile(model, dynamic=False)
    opts = optimisers(model)
    rates = [[g['lr'] for g in o.param_groups] for o in opts]
    step, waited, total = 0, 0.0, torch.zeros(2, device='cuda')
    train_from = None
    while True:
        t = time.time()
        batch = stream.next()
        waited += time.time() - t
        elapsed = time.time() - (train_from or time.time())
        done = elapsed / max(1.0, a.seconds - ((train_from or begin) - begin))
        scale = min(1, (step + 1) / 100) * (max(0.0, 1 - done) if a.phase == 'decay' else 1.0)
        for o, lr in zip(opts, rates):
            for g, r in zip(o.param_groups, lr):
                g['lr'] = r * scale
        ce, balance = loss_of(model, forward, to_device(batch))
        (ce + BALANCE * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
            o.zero_grad(set_to_none=True)
        total += torch.stack([ce.detach(), balance.detach()])
        step += 1
        if step == 5:
            torch.cuda.synchronize()
            train_from = time.time()
            print(f'ready after {train_from - begin:.0f} s, {len(fonts)} fonts', flush=True)
        if step % 250 == 0:
            ce_mean, balance_mean = (total / 250).tolist()
            total.zero_()
            print(f'step {meta["steps"] + step} loss {ce_mean:.4f} balance {balance_mean:.3f} {step / (time.time() - train_from):.1f} steps/s, waited {waited:.0f} s', flush=True)
        if time.time() - begin > a.seconds:
            break
    stream.close()
    save(model, Path(a.state_dir), dict(steps=meta['steps'] + step, seconds=meta['seconds'] + time.time() - begin))
    print(f'saved after {step} steps', flush=True)


if __name__ == '__main__':
    main()
