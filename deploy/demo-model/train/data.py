"""Packed batches of examples, made by worker processes from seeds."""
import queue
import random
import threading
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from chat import encode
from config import PATCH, POOL
from skills import SKILLS, WITH_PICTURES, images, needle

LONG_SHARE = 0.35        # of the batches begin with a long needle
MAX_MISSES = 3           # examples that found no room before a batch is called full


def soft_tokens(image):
    h, w = image.pixels.shape[:2]
    return (h // (PATCH * POOL)) * (w // (PATCH * POOL))


def patches(image):
    """-> [P, 768] uint8 (row, column, channel inside a patch), columns x, rows y, pooled cell of each patch."""
    h, w = image.pixels.shape[0] // PATCH, image.pixels.shape[1] // PATCH
    p = image.pixels.reshape(h, PATCH, w, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(h * w, -1)
    y, x = np.divmod(np.arange(h * w), w)
    return p, x, y, (x // POOL) + (w // POOL) * (y // POOL)


class Packer:
    """Fills one batch of fixed size: `tokens` rows of text, `max_patches` of pictures."""
    def __init__(self, tokenizer, tokens, max_patches):
        self.tokenizer, self.tokens, self.max_patches = tokenizer, tokens, max_patches
        self.rows, self.media = [], []
        self.used = self.used_patches = self.cells = 0
        self.examples = []

    def encoded(self, example):
        return encode(self.tokenizer, example, soft_tokens)

    def add(self, encoded, example=None):
        """False if it does not fit."""
        ids, mask, media = encoded
        count = sum(m.pixels.shape[0] * m.pixels.shape[1] // PATCH ** 2 for _, m in media)
        if self.used + len(ids) >= self.tokens or self.used_patches + count > self.max_patches:
            return False
        doc = len(self.rows)
        span = np.zeros(len(ids), np.int32)
        for start, m in media:
            n = soft_tokens(m)
            number = len(self.media) + 1
            span[start:start + n] = number
            self.media.append((self.used + start, n, self.cells, patches(m)))
            self.cells += n
        self.rows.append((self.used, np.asarray(ids), np.asarray(mask), doc, span))
        self.examples.append(example)
        self.used += len(ids)
        self.used_patches += count
        return True

    def batch(self):
        t, p = self.tokens, self.max_patches
        b = dict(ids=np.zeros(t, np.int64), positions=np.zeros(t, np.int64), doc=np.full(t, -1, np.int32), span=np.zeros(t, np.int32), learn=np.zeros(t, np.int8))
        for start, ids, mask, doc, span in self.rows:
            s = slice(start, start + len(ids))
            b['ids'][s], b['positions'][s], b['doc'][s], b['span'][s] = ids, np.arange(len(ids)), doc, span
            b['learn'][s] = mask * (SKILLS[self.examples[doc].skill][2] if self.examples[doc] else 1)
        # Rows whose next token is learned, and the skill of each document, for the loss and the report.
        b.update(learned=np.flatnonzero(b['learn'][1:]), skill=np.array([list(SKILLS).index(e.skill) if e else 0 for e in self.examples]))
        max_cells = p // POOL ** 2
        b.update(patches=np.zeros((p, 3 * PATCH * PATCH), np.uint8), x=np.zeros(p, np.int64), y=np.zeros(p, np.int64), image=np.full(p, -1, np.int32),
                 cell=np.full(p, max_cells, np.int64), soft_rows=np.zeros(max_cells, np.int64), num_cells=np.array(self.cells))
        at = 0
        for number, (row, n, first, (pix, x, y, cell)) in enumerate(self.media):
            s = slice(at, at + len(pix))
            b['patches'][s], b['x'][s], b['y'][s], b['image'][s], b['cell'][s] = pix, x, y, number, cell + first
            b['soft_rows'][first:first + n] = np.arange(row, row + n)
            at += len(pix)
        return {k: torch.from_numpy(v) for k, v in b.items()}


def make_batch(tokenizer, rng, tokens, max_patches, shares):
    """A batch with the examples' share of each skill, until there is no room for pictures; then filled with text."""
    packer, left = Packer(tokenizer, tokens, max_patches), dict(shares)
    if shares.get('needle') and rng.random() < LONG_SHARE:
        e = needle.long_example(rng)
        packer.add(packer.encoded(e), e)
    misses = {True: 0, False: 0}         # by whether the skill has pictures
    while misses[False] < MAX_MISSES:
        name = rng.choices(list(left), left.values())[0]
        e = SKILLS[name][0](rng, 'train')
        if not packer.add(packer.encoded(e), e):
            misses[name in WITH_PICTURES] += 1
            if misses[True] == MAX_MISSES:
                left = {n: s for n, s in left.items() if n not in WITH_PICTURES}
    return packer.batch()


def worker(made, model_dir, fonts, seed, tokens, max_patches, shares):
    torch.set_num_threads(1)
    images.FONTS[:] = fonts
    tokenizer, rng = Tokenizer.from_file(str(Path(model_dir) / 'tokenizer.json')), random.Random(seed)
    while True:
        made.put(make_batch(tokenizer, rng, tokens, max_patches, shares))


class Stream:
    """Batches without end from `workers` processes, in pinned memory."""
    def __init__(self, model_dir, fonts, seed, tokens, max_patches, shares, workers):
        import torch.multiprocessing as tmp
        tmp.set_sharing_strategy('file_system')
        context = tmp.get_context('fork')
        self.made = context.Queue(maxsize=2 * workers)
        self.processes = [context.Process(target=worker, daemon=True, args=(self.made, model_dir, fonts, seed * 1000 + i, tokens, max_patches, shares)) for i in range(workers)]
        for p in self.processes:
            p.start()
        self.pinned = queue.Queue(maxsize=3)
        threading.Thread(target=self.pin, daemon=True).start()

    def pin(self):
        pin = torch.Tensor.pin_memory if torch.cuda.is_available() else torch.Tensor.contiguous
        while True:
            self.pinned.put({k: pin(v) for k, v in self.made.get().items()})

    def next(self):
        return self.pinned.get(timeout=120)

    def close(self):
        for p in self.processes:
            p.kill()
