"""Compares the training model with transformers on the same weights: `check_reference.py MODEL_DIR STATE_DIR`. Prints the
largest logit difference of one text and one picture prompt."""
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Gemma4ForConditionalGeneration
from transformers.models.gemma4.configuration_gemma4 import Gemma4Config

from data import Packer
from model import Demo
from skills import SKILLS, images
from train import PATCHES, TOKENS, load, to_device


def main(model_dir, state_dir):
    images.FONTS[:] = images.find_fonts()
    tokenizer = Tokenizer.from_file(f'{model_dir}/tokenizer.json')
    ours = Demo()
    load(ours, Path(state_dir), model_dir)
    ours = ours.bfloat16().float().cuda().eval()
    config = Gemma4Config.from_pretrained(model_dir)
    config._attn_implementation = 'eager'
    theirs = Gemma4ForConditionalGeneration(config).float().cuda().eval()
    missing, unexpected = theirs.load_state_dict({'model.' + k: v for k, v in ours.state_dict().items()}, strict=False)
    print('missing', [m for m in missing if 'lm_head' not in m], 'unexpected', unexpected)
    for skill in ('tools', 'one_image'):
        e = SKILLS[skill][0](random.Random(5), 'eval')
        packer = Packer(tokenizer, TOKENS, PATCHES)
        ids, mask, media = packer.encoded(e)
        packer.add((ids, mask, media))
        b = to_device(packer.batch())
        with torch.no_grad():
            hidden, routing = ours(b['ids'], b['positions'], b['doc'], b['span'], (b['patches'], b['x'], b['y'], b['image'], b['cell'], b['soft_rows'].shape[0]), b['soft_rows'])
            a = ours.logits(hidden[:len(ids)])
            extra = {}
            if media:
                n = packer.used_patches
                extra = dict(pixel_values=(b['patches'][:n].float() / 255)[None], image_position_ids=torch.stack([b['x'][:n], b['y'][:n]], -1)[None],
                             mm_token_type_ids=(b['span'][:len(ids)] > 0).long()[None])
            z = theirs(input_ids=torch.tensor([ids], device='cuda'), **extra).logits[0].float()
        d = (a - z).abs()
        print(skill, 'rows', len(ids), 'largest difference', d.max().item(), 'mean', d.mean().item(), 'same argmax', (a.argmax(-1) == z.argmax(-1)).float().mean().item())


if __name__ == '__main__':
    main(*sys.argv[1:])
