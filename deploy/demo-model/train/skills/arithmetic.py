"""Addition and subtraction to two digits, multiplication to 10 x 10, comparison."""
from chat import Example, Turn
from .words import pick

FORMS = ['What is {}?', 'Compute {}.', '{} = ?', 'Please calculate {}.', 'How much is {}?', 'Tell me {}.', '{}', 'Can you work out {}?',
         'I need the result of {}.', 'Solve {}', 'what is {}', 'Give me {}, please.', 'Calculate: {}']
SPOKEN = {'+': ['{} + {}', '{}+{}', '{} plus {}', 'the sum of {} and {}'], '-': ['{} - {}', '{}-{}', '{} minus {}'],
          '*': ['{} * {}', '{} x {}', '{} times {}', 'the product of {} and {}']}


def result(op, a, b):
    return a + b if op == '+' else a - b if op == '-' else a * b


def operands(rng):
    op = rng.choice('++--*')
    top = 10 if op == '*' else rng.choice([9, 99, 99])
    return op, rng.randint(0, top), rng.randint(0, top)


def sum_question(rng):
    op, a, b = operands(rng)
    text = rng.choice(FORMS).format(rng.choice(SPOKEN[op]).format(a, b))
    return f'{a}{op}{b}', Example('arithmetic', [Turn('user', text)], str(result(op, a, b)))


def compare_question(rng):
    a, b = rng.sample(range(100), 2)
    word, answer = rng.choice([('larger', max(a, b)), ('smaller', min(a, b)), ('bigger', max(a, b)), ('greater', max(a, b))])
    text = rng.choice(['Which is {w}, {a} or {b}?', 'Which number is {w}: {a} or {b}?', '{a} or {b}: which is {w}?']).format(w=word, a=a, b=b)
    return f'cmp{a},{b}', Example('arithmetic', [Turn('user', text)], str(answer))


def example(rng, split):
    return pick(rng, compare_question if rng.random() < 0.1 else sum_question, split)
