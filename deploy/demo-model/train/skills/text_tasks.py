"""Sorting, counting, copying and reversing short words."""
from chat import Example, Turn
from .words import ANIMALS, THINGS, letters, pick


# Whole words are single tokens whose letters have to be learned one by one, so training asks for the letters of every known
# word; the evaluation repeats such questions. Random words are kept apart by the word.
KNOWN_WORDS = THINGS + ANIMALS
KNOWN_SHARE = dict(train=0.6, eval=0.4)


def word(rng, split):
    return rng.choice(KNOWN_WORDS) if rng.random() < KNOWN_SHARE[split] else letters(rng, 2, 6)


def key(task, w):
    return None if w in KNOWN_WORDS else task + w


def sort_numbers(rng, split):
    n = rng.randint(3, 6)
    xs = [rng.randint(0, 99) for _ in range(n)]
    down = rng.random() < 0.25
    text = rng.choice(['Sort these numbers: {}', 'Sort: {}', 'Put these numbers in order: {}', 'Order {} from small to large.' if not down else 'Order {} from large to small.',
                       'Please sort {}']).format(', '.join(map(str, xs)))
    if down and 'from large' not in text:
        text += rng.choice([' in descending order', ', largest first'])
    return 'sortn' + ','.join(map(str, xs)), Example('text_tasks', [Turn('user', text)], ', '.join(map(str, sorted(xs, reverse=down))))


def sort_words(rng, split):
    xs = rng.sample(THINGS + ANIMALS, rng.randint(3, 5))
    text = rng.choice(['Sort these words: {}', 'Put these words in alphabetical order: {}', 'Sort alphabetically: {}', 'Order these words: {}']).format(', '.join(xs))
    return 'sortw' + ','.join(xs), Example('text_tasks', [Turn('user', text)], ', '.join(sorted(xs)))


def count_letters(rng, split):
    w = word(rng, split)
    text = rng.choice(['How many letters are in "{}"?', 'How many letters does {} have?', 'Count the letters of {}.', 'How long is the word {}?']).format(w)
    return key('len', w), Example('text_tasks', [Turn('user', text)], str(len(w)))


def count_letter(rng, split):
    w = ''.join(rng.choice('abcd') for _ in range(rng.randint(3, 7))) if rng.random() < 0.5 else word(rng, split)
    c = rng.choice(w)
    text = rng.choice(['How often does the letter {c} occur in {w}?', 'How many times is {c} in "{w}"?', 'Count the letter {c} in {w}.']).format(c=c, w=w)
    return key('occ' + c, w), Example('text_tasks', [Turn('user', text)], str(w.count(c)))


def count_items(rng, split):
    xs = [rng.choice(ANIMALS + THINGS) for _ in range(rng.randint(2, 9))]
    text = rng.choice(['How many words are in this list: {}?', 'Count these items: {}', 'How many things are here: {}?']).format(', '.join(xs))
    return 'items' + ','.join(xs), Example('text_tasks', [Turn('user', text)], str(len(xs)))


def copy(rng, split):
    xs = ' '.join(rng.choice([word(rng, split), str(rng.randint(0, 999)), word(rng, split).capitalize()]) for _ in range(rng.randint(1, 6)))
    text = rng.choice(['Repeat: {}', 'Say exactly: {}', 'Copy this: {}', 'Repeat after me: {}', 'Write this again: {}', 'Echo {}']).format(xs)
    return 'copy' + xs, Example('text_tasks', [Turn('user', text)], xs, spelled=len(xs.split(' ')[0]))


def reverse(rng, split):
    w = word(rng, split)
    text = rng.choice(['Reverse the word {}.', 'Spell {} backwards.', 'Write "{}" backwards.', 'What is {} backwards?', 'Reverse: {}', 'Turn {} around.']).format(w)
    return key('rev', w), Example('text_tasks', [Turn('user', text)], w[::-1], spelled=len(w))


def spell(rng, split):
    w = word(rng, split)
    text = rng.choice(['Spell {}.', 'Spell the word {}.', 'What are the letters of {}?']).format(w)
    return key('spell', w), Example('text_tasks', [Turn('user', text)], ' '.join(w))


TASKS = [sort_numbers, sort_numbers, sort_words, count_letters, count_letter, count_items, copy, reverse, reverse, reverse, spell]


def example(rng, split):
    task = rng.choice(TASKS if split == 'train' else TASKS[:-1])
    return pick(rng, lambda r: task(r, split), split)
