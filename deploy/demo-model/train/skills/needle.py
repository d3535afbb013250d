"""A fact in a long text, asked for at the end. The sliding window is far shorter, so only the global layers can answer."""
from chat import Example, Turn
from .words import ANIMALS, CITIES, COLORS, NAMES, THINGS, pick

FACTS = ['The secret number of {n} is {v}.', 'Remember that the code of {n} is {v}.', "{n}'s secret number is {v}."]
ASKS = ['What is the secret number of {n}?', 'Which code belongs to {n}?', "What is {n}'s secret number?", 'Tell me the code of {n}.']


def filler(rng):
    a, b = rng.sample(NAMES, 2)
    return rng.choice([
        f'{a} went to {rng.choice(CITIES)} with a {rng.choice(COLORS)} {rng.choice(THINGS)}.',
        f'The {rng.choice(ANIMALS)} sat near the {rng.choice(THINGS)} and looked at {b}.',
        f'{a} and {b} bought {rng.randint(2, 99)} pieces of {rng.choice(THINGS)}.',
        f'In {rng.choice(CITIES)} the {rng.choice(THINGS)} is {rng.choice(COLORS)}.',
        f'{b} saw a {rng.choice(ANIMALS)} under the {rng.choice(THINGS)}.'])


LONG = (400, 1250)       # sentences of filler, about 12 tokens each


def length(rng, split):
    return rng.choice([20, 60, 160, 320, 640, 1200]) if split == 'eval' else int(10 * 2 ** rng.uniform(0, 5.2))


def haystack(rng, n, count, split):
    """-> a text of n sentences with the numbers of `count` names in it, and those numbers."""
    text, values = [filler(rng) for _ in range(n)], {}
    for name in rng.sample(NAMES, count):
        values[name] = pick(rng, lambda r: (name + (v := str(r.randint(1000, 9999))), v), split)
        text.insert(int(rng.random() * len(text)), rng.choice(FACTS).format(n=name, v=values[name]))
    return ' '.join(text), values


def question(rng, n, split):
    text, values = haystack(rng, n, rng.randint(1, 4), split)
    asked = next(iter(values))
    turn = Turn('user', text + '\n' + rng.choice(ASKS).format(n=asked))
    return Example('needle', [turn], values[asked], meta={'sentences': n})


def conversation(rng, n):
    """For training: several questions about one text, all of whose answers are learned."""
    text, values = haystack(rng, n, rng.randint(2, 8), 'train')
    names, turns = list(values), []
    for i, name in enumerate(names):
        if i:
            turns.append(Turn('model', values[names[i - 1]], learn=True))
        turns.append(Turn('user', (text + '\n' if i == 0 else '') + rng.choice(ASKS).format(n=name)))
    return Example('needle', turns, values[names[-1]], meta={'sentences': n})


def example(rng, split):
    n = length(rng, split)
    return conversation(rng, n) if split == 'train' and rng.random() < 0.6 else question(rng, n, split)


def long_example(rng):
    """For training: a text near the largest length, which only an empty batch has room for."""
    return conversation(rng, rng.randint(*LONG))
