"""The trained state as a checkpoint in the published format: bfloat16 shards of at most 8 MB and their index.
Usage: export.py STATE_DIR MODEL_DIR"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SHARD_BYTES = 7_900_000


def to_bf16(x):
    """Bits of float32 values rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_shard(path, tensors):
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = dict(dtype='BF16', shape=list(shape), data_offsets=[at, at + data.nbytes])
        at += data.nbytes
    text = json.dumps(dict(__metadata__=dict(format='pt'), **header)).encode()
    text += b' ' * (-(len(text) + 8) % 64)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for _, data in tensors.values():
            f.write(data.tobytes())


def main(state_dir, model_dir):
    state = {}
    for path in sorted(Path(state_dir).glob('state-*.safetensors')):
        state.update(load_file(path))
    shards, size = [{}], 0
    for name in sorted(state):
        data = to_bf16(state[name])
        if size + data.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1]['model.' + name] = (state[name].shape, data)
        size += data.nbytes
    out, where = Path(model_dir), {}
    for old in out.glob('model-*.safetensors'):
        old.unlink()
    for i, shard in enumerate(shards):
        file = f'model-{i + 1:05d}-of-{len(shards):05d}.safetensors'
        write_shard(out / file, shard)
        where.update({name: file for name in shard})
    total = sum(d.nbytes for s in shards for _, d in s.values())
    (out / 'model.safetensors.index.json').write_text(json.dumps(dict(metadata=dict(total_size=total), weight_map=where), indent=0) + '\n')
    print(f'{total} bytes in {len(shards)} shards')


if __name__ == '__main__':
    main(*sys.argv[1:])
