"""Writes what the Hugging Face library makes of random texts.

usage: tokenizer_oracle.py TOKENIZER_JSON OUT_FILE SEED NUM_TEXTS [CORPUS_FILE...]
One line a case: kind, text or ids, result. Kinds: P plain text, S with control tokens, D decoded ids
(skip special), K decoded ids (keep special). Texts are hexadecimal UTF-8, "-" if empty.
"""
import json
import random
import sys

from random_text import random_text
from tokenizers import Tokenizer


def hexed(text):
    return text.encode("utf-8").hex() or "-"


def listed(ids):
    return ",".join(map(str, ids)) or "-"


def random_ids(rng, tokenizer, byte_ids, special_ids):
    size = tokenizer.get_vocab_size()
    ids = []
    for _ in range(rng.randrange(1, 40)):
        kind = rng.random()
        if kind < 0.35:
            ids.append(rng.choice(byte_ids))
        elif kind < 0.55:
            text = rng.choice(["é", "日", "👍", "𓀀", "\u2581"]).encode()
            ids.extend(byte_ids[b] for b in text)
        elif kind < 0.65:
            ids.append(rng.choice(special_ids))
        else:
            ids.append(rng.randrange(size))
    return ids


def main(path, out_path, seed, num_texts, corpora):
    tokenizer = Tokenizer.from_file(path)
    rng = random.Random(int(seed))
    document = json.load(open(path, encoding="utf-8"))
    vocab = document["model"]["vocab"]
    special_ids = [token["id"] for token in document["added_tokens"]]
    byte_ids = [vocab["<0x%02X>" % b] for b in range(256)]
    pieces = [p for i, p in enumerate(sorted(vocab)) if i % max(1, len(vocab) // 20000) == 0]
    texts = [open(name, encoding="utf-8", newline="").read() for name in corpora]
    texts += [random_text(rng, pieces) for _ in range(int(num_texts))]
    with open(out_path, "w") as out:
        tokenizer.encode_special_tokens = True
        for text in texts:
            out.write(f"P {hexed(text)} {listed(tokenizer.encode(text, add_special_tokens=False).ids)}\n")
        tokenizer.encode_special_tokens = False
        for text in texts[: len(texts) // 4]:
            out.write(f"S {hexed(text)} {listed(tokenizer.encode(text, add_special_tokens=False).ids)}\n")
        for _ in range(int(num_texts) // 4):
            ids = random_ids(rng, tokenizer, byte_ids, special_ids)
            out.write(f"D {listed(ids)} {hexed(tokenizer.decode(ids, skip_special_tokens=True))}\n")
            out.write(f"K {listed(ids)} {hexed(tokenizer.decode(ids, skip_special_tokens=False))}\n")


main(*sys.argv[1:5], sys.argv[5:])
