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


def length(rng, split):
    """Sentences of filler; about 12 tokens each."""
    if split == 'eval':
        return rng.choice([20, 60, 160, 320, 640, 1200])
    return int(10 * 2 ** rng.uniform(0, 5.2)) if rng.random() < 0.85 else rng.randint(400, 1250)


def question(rng, n, position=None):
    names = rng.sample(NAMES, rng.randint(1, 4))
    text = [filler(rng) for _ in range(n)]
    values = {}
    for i, name in enumerate(names):
        values[name] = str(rng.randint(1000, 9999))
        at = position if i == 0 and position is not None else rng.random()
        text.insert(int(at * len(text)), rng.choice(FACTS).format(n=name, v=values[name]))
    asked = names[0]
    body = ' '.join(text) + '\n' + rng.choice(ASKS).format(n=asked)
    return asked + values[asked], Example('needle', [Turn('user', body)], values[asked], meta={'sentences': n})


def example(rng, split):
    n = length(rng, split)
    return pick(rng, lambda r: question(r, n), split)
