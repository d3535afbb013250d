"""Sorting, counting, copying and reversing short words."""
from chat import Example, Turn
from .words import ANIMALS, THINGS, letters, pick


def word(rng):
    return rng.choice(THINGS + ANIMALS) if rng.random() < 0.4 else letters(rng, 2, 6)


def sort_numbers(rng):
    n = rng.randint(3, 6)
    xs = [rng.randint(0, 99) for _ in range(n)]
    down = rng.random() < 0.25
    text = rng.choice(['Sort these numbers: {}', 'Sort: {}', 'Put these numbers in order: {}', 'Order {} from small to large.' if not down else 'Order {} from large to small.',
                       'Please sort {}']).format(', '.join(map(str, xs)))
    if down and 'from large' not in text:
        text += rng.choice([' in descending order', ', largest first'])
    return 'sortn' + ','.join(map(str, xs)), Example('text_tasks', [Turn('user', text)], ', '.join(map(str, sorted(xs, reverse=down))))


def sort_words(rng):
    xs = rng.sample(THINGS + ANIMALS, rng.randint(3, 5))
    text = rng.choice(['Sort these words: {}', 'Put these words in alphabetical order: {}', 'Sort alphabetically: {}', 'Order these words: {}']).format(', '.join(xs))
    return 'sortw' + ','.join(xs), Example('text_tasks', [Turn('user', text)], ', '.join(sorted(xs)))


def count_letters(rng):
    w = word(rng)
    text = rng.choice(['How many letters are in "{}"?', 'How many letters does {} have?', 'Count the letters of {}.', 'How long is the word {}?']).format(w)
    return 'len' + w, Example('text_tasks', [Turn('user', text)], str(len(w)))


def count_letter(rng):
    w = ''.join(rng.choice('abcd') for _ in range(rng.randint(3, 7))) if rng.random() < 0.5 else word(rng)
    c = rng.choice(w)
    text = rng.choice(['How often does the letter {c} occur in {w}?', 'How many times is {c} in "{w}"?', 'Count the letter {c} in {w}.']).format(c=c, w=w)
    return f'occ{c}{w}', Example('text_tasks', [Turn('user', text)], str(w.count(c)))


def count_items(rng):
    xs = [rng.choice(ANIMALS + THINGS) for _ in range(rng.randint(2, 9))]
    text = rng.choice(['How many words are in this list: {}?', 'Count these items: {}', 'How many things are here: {}?']).format(', '.join(xs))
    return 'items' + ','.join(xs), Example('text_tasks', [Turn('user', text)], str(len(xs)))


def copy(rng):
    xs = ' '.join(rng.choice([word(rng), str(rng.randint(0, 999)), word(rng).capitalize()]) for _ in range(rng.randint(1, 6)))
    text = rng.choice(['Repeat: {}', 'Say exactly: {}', 'Copy this: {}', 'Repeat after me: {}', 'Write this again: {}', 'Echo {}']).format(xs)
    return 'copy' + xs, Example('text_tasks', [Turn('user', text)], xs)


def reverse(rng):
    w = word(rng)
    text = rng.choice(['Reverse the word {}.', 'Spell {} backwards.', 'Write "{}" backwards.', 'What is {} backwards?', 'Reverse: {}', 'Turn {} around.']).format(w)
    return 'rev' + w, Example('text_tasks', [Turn('user', text)], w[::-1])


def spell(rng):
    w = word(rng)
    text = rng.choice(['Spell {}.', 'Spell the word {}.', 'What are the letters of {}?']).format(w)
    return 'spell' + w, Example('text_tasks', [Turn('user', text)], ' '.join(w))


TASKS = [sort_numbers, sort_numbers, sort_words, count_letters, count_letter, count_items, copy, reverse, reverse, reverse, spell]


def example(rng, split):
    return pick(rng, rng.choice(TASKS if split == 'train' else TASKS[:-1]), split)
