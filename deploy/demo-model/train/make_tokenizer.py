"""Trains the byte-pair vocabulary on text of the generators and writes tokenizer.json in the published form: control tokens,
bytes, characters, then pieces. Digits never merge, so numbers are read digit by digit. Usage: make_tokenizer.py OUT_DIR"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from chat import pieces
from config import CONTROL_TOKENS, VOCAB_SIZE, write_companions
from skills import SKILLS
from skills import images

CORPUS_EXAMPLES = 40_000


def corpus(rng):
    text_skills = [s for s in SKILLS if s not in ('one_image', 'several_images', 'video')]
    for i in range(CORPUS_EXAMPLES):
        e = SKILLS[text_skills[i % len(text_skills)]][0](rng, 'train')
        if e.skill == 'needle' and len(e.turns[-1].text) > 4000:
            continue
        prompt, answer = pieces(e)
        text = ''.join(p[1] for p in prompt + answer if p[0] != 'image')
        for control in CONTROL_TOKENS:
            text = text.replace(control, '\n')
        yield text
    for q in ('What shape is this? circle square triangle star cross', 'Which picture shows something? The first. The second. The third.',
              'How many circles squares triangles stars crosses are there?', 'Where is the shape: left, right, top or bottom?'):
        for _ in range(200):
            yield q


def main(out: Path):
    train = Tokenizer(models.BPE(unk_token='<unk>', byte_fallback=True, fuse_unk=True))
    train.normalizer = normalizers.Replace(' ', '▁')
    train.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split('▁', 'merged_with_next'), pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Split('\n', 'isolated'), pre_tokenizers.Punctuation('isolated')])
    fixed = CONTROL_TOKENS + [f'<0x{b:02X}>' for b in range(256)]
    ascii_characters = [chr(c) for c in range(32, 127) if c != 32] + ['▁', '\n', '\t']
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=fixed, initial_alphabet=ascii_characters, limit_alphabet=120, show_progress=False)
    train.train_from_iterator(corpus(random.Random(1)), trainer)
    model = json.loads(train.to_str())['model']
    added = [dict(id=i, content=c, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, c in enumerate(CONTROL_TOKENS)]
    vocab = model['vocab']
    assert len(vocab) == VOCAB_SIZE and all(vocab[c] == i for i, c in enumerate(fixed)), len(vocab)
    write_companions(out)
    (out / 'tokenizer.json').write_text(json.dumps(dict(
        version='1.0', truncation=None, padding=None, added_tokens=added,
        normalizer=dict(type='Replace', pattern=dict(String=' '), content='▁'), pre_tokenizer=None, post_processor=None,
        decoder=dict(type='Sequence', decoders=[dict(type='Replace', pattern=dict(String='▁'), content=' '), dict(type='ByteFallback'), dict(type='Fuse')]),
        model=dict(type='BPE', dropout=None, unk_token='<unk>', continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=True,
                   byte_fallback=True, ignore_merges=False, vocab=vocab, merges=model['merges'])), ensure_ascii=False))


if __name__ == '__main__':
    images.FONTS.append('unused')
    main(Path(sys.argv[1]))
