"""Arithmetic chains: worked out step by step in the thought channel, or, where they are short, answered directly."""
from chat import Example, Turn
from .words import pick


DIRECT_STEPS = 2     # more cannot be expected of six layers without writing the steps down


def chain(rng, n):
    total = rng.randint(1, 50)
    terms, steps = [str(total)], []
    for _ in range(n):
        op = rng.choice('+-')
        x = rng.randint(1, min(40, total) if op == '-' else 40) if op == '+' or total > 0 else 1
        if op == '-' and total == 0:
            op = '+'
        before, total = total, total + x if op == '+' else total - x
        terms.append(f'{op} {x}')
        steps.append(f'{before} {op} {x} = {total}')
    return ' '.join(terms), steps, total


def question(rng):
    thinking = rng.random() < 0.65
    terms, steps, total = chain(rng, rng.randint(2, 5) if thinking else DIRECT_STEPS)
    text = rng.choice(['What is {}?', 'Compute {}.', '{} = ?', 'Work out {}.', 'How much is {}?', 'Calculate {}']).format(terms)
    return terms, Example('thinking', [Turn('user', text)], str(total), thought='\n'.join(steps) if thinking else '', thinking=thinking)


def example(rng, split):
    if split == 'train' and rng.random() < 0.15:   # ordinary questions with thinking on: a short thought
        from . import arithmetic
        e = arithmetic.example(rng, split)
        e.skill, e.thinking, e.thought = 'thinking', True, f'The answer is {e.answer}.'
        return e
    return pick(rng, question, split)
