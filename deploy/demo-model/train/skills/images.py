"""Pictures drawn by programs: shapes, colours, counts, positions, sizes, printed words; one to three in a prompt."""
import glob
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image as Pil, ImageDraw, ImageFont

from chat import Example, Image, Turn
from config import BUDGETS
from .words import held_out, letters

COLORS = {'red': (220, 30, 30), 'green': (30, 160, 50), 'blue': (40, 70, 220), 'yellow': (240, 220, 40), 'black': (20, 20, 20),
          'white': (245, 245, 245), 'orange': (250, 140, 20), 'purple': (140, 40, 170)}
SHAPES = ['circle', 'square', 'triangle', 'star', 'cross']
FONTS = []      # set with find_fonts(): paths of TrueType files
FONT_PATTERNS = ['/usr/share/fonts/truetype/*/*.ttf', str(Path(__file__).parent.parent / 'fonts/*.ttf')]
LATIN_FONTS = ('DejaVu', 'Liberation', 'FreeSans', 'FreeSerif', 'FreeMono', 'Lato-', 'OpenSans')
# How often each token budget is drawn; large ones cost training most and teach least.
BUDGET_WEIGHTS = dict(train=(58, 26, 12, 3, 1), eval=(40, 25, 22, 9, 4))
WORDS = 'cat dog sun tree book stop open exit sale milk fire ice star moon north south east west left right taxi hotel zoo park bank shop bus'.split()


def find_fonts():
    found = sorted(p for pattern in FONT_PATTERNS for p in glob.glob(pattern))
    return [p for p in found if Path(p).name.startswith(LATIN_FONTS)]


def target_size(h, w, budget):
    """Legal size for a picture (the published rule): multiples of 48, at most 9 * budget patches."""
    f = math.sqrt(9 * budget * 256 / (h * w))
    return max(48, math.floor(f * h / 48) * 48), max(48, math.floor(f * w / 48) * 48)


def shade(rng, name):
    return tuple(max(0, min(255, c + rng.randint(-18, 18))) for c in COLORS[name])


def canvas(rng, aspect_max=2.5):
    """Background and its colour's name, at a random native size."""
    area = rng.uniform(160, 420) ** 2
    aspect = math.exp(rng.uniform(-1, 1) * math.log(aspect_max))
    w, h = int(math.sqrt(area * aspect)), int(math.sqrt(area / aspect))
    name = rng.choice(list(COLORS))
    if rng.random() < 0.6:
        name = 'white'
    return Pil.new('RGB', (w, h), shade(rng, name)), name


def draw_shape(d, shape, cx, cy, r, fill):
    if shape == 'circle':
        d.ellipse([cx - r, cy - r, cx + r, cy + r], fill=fill)
    elif shape == 'square':
        d.rectangle([cx - 0.85 * r, cy - 0.85 * r, cx + 0.85 * r, cy + 0.85 * r], fill=fill)
    elif shape == 'triangle':
        d.polygon([(cx, cy - r), (cx - 0.9 * r, cy + 0.75 * r), (cx + 0.9 * r, cy + 0.75 * r)], fill=fill)
    elif shape == 'star':
        d.polygon([(cx + (r if i % 2 == 0 else 0.42 * r) * math.sin(i * math.pi / 5), cy - (r if i % 2 == 0 else 0.42 * r) * math.cos(i * math.pi / 5)) for i in range(10)], fill=fill)
    else:
        d.rectangle([cx - 0.3 * r, cy - r, cx + 0.3 * r, cy + r], fill=fill)
        d.rectangle([cx - r, cy - 0.3 * r, cx + r, cy + 0.3 * r], fill=fill)


def finish(rng, picture, budget=None, stamp='', weights=BUDGET_WEIGHTS['eval']):
    """Sometimes through JPEG, then to a legal size of a random token budget."""
    if rng.random() < 0.4:
        data = io.BytesIO()
        picture.save(data, 'JPEG', quality=rng.randint(60, 95))
        picture = Pil.open(data).convert('RGB')
    budget = budget or rng.choices(BUDGETS, weights)[0]
    h, w = target_size(picture.height, picture.width, budget)
    return Image(np.asarray(picture.resize((w, h), Pil.BICUBIC)), stamp, picture, budget)


def single_shape(rng):
    picture, back = canvas(rng)
    shape, color = rng.choice(SHAPES), rng.choice([c for c in COLORS if c != back])
    r = rng.uniform(0.2, 0.42) * min(picture.size)
    cx, cy = rng.uniform(r, picture.width - r), rng.uniform(r, picture.height - r)
    draw_shape(ImageDraw.Draw(picture), shape, cx, cy, r, shade(rng, color))
    return picture, shape, color


def ask_shape(rng):
    picture, shape, color = single_shape(rng)
    q, a = rng.choice([
        (['What shape is this?', 'Which shape do you see?', 'What is the shape in the picture?', 'Name the shape.'], shape),
        (['What color is the shape?', 'Which color is it?', 'What colour does the shape have?', 'Name the color of the shape.'], color),
        (['What is this?', 'What do you see?', 'Describe the picture.', 'What is in the image?'], f'A {color} {shape}.')])
    return picture, rng.choice(q), a


def ask_count(rng):
    picture, back = canvas(rng)
    d, n = ImageDraw.Draw(picture), rng.randint(1, 6)
    shape, color = rng.choice(SHAPES), rng.choice([c for c in COLORS if c != back])
    columns = 3 if picture.width >= picture.height else 2
    rows = math.ceil(6 / columns)
    cw, ch = picture.width / columns, picture.height / rows
    for cell in rng.sample(range(columns * rows), n):
        r = min(cw, ch) * rng.uniform(0.25, 0.4)
        cx = (cell % columns + 0.5) * cw + rng.uniform(-1, 1) * (cw / 2 - r) * 0.7
        cy = (cell // columns + 0.5) * ch + rng.uniform(-1, 1) * (ch / 2 - r) * 0.7
        draw_shape(d, shape, cx, cy, r, shade(rng, color))
    return picture, rng.choice([f'How many {shape}s are there?'.replace('crosss', 'crosses'), 'How many shapes do you see?', 'Count the shapes.', 'How many things are in the picture?']), str(n)


def ask_position(rng):
    picture, back = canvas(rng, 1.6)
    w, h = picture.size
    place = rng.choice(['left', 'right', 'top', 'bottom'])
    r = rng.uniform(0.12, 0.22) * min(w, h)
    off = rng.uniform(0.0, 0.12)
    x = {'left': r + off * w, 'right': w - r - off * w}.get(place, w * rng.uniform(0.42, 0.58))
    y = {'top': r + off * h, 'bottom': h - r - off * h}.get(place, h * rng.uniform(0.42, 0.58))
    color = rng.choice([c for c in COLORS if c != back])
    shape = rng.choice(SHAPES)
    draw_shape(ImageDraw.Draw(picture), shape, x, y, r, shade(rng, color))
    return picture, rng.choice([f'Where is the {shape}?', 'Where is the shape: left, right, top or bottom?', f'Where is the {color} {shape}?', 'On which side is the shape?']), place


def ask_larger(rng):
    picture, back = canvas(rng, 1.6)
    w, h = picture.size
    d = ImageDraw.Draw(picture)
    a, b = rng.sample([c for c in COLORS if c != back], 2)
    shape = rng.choice(SHAPES)
    big = rng.uniform(0.7, 1.0) * min(w / 4, h / 2) * 0.9
    small = big * rng.uniform(0.35, 0.65)
    first_big = rng.random() < 0.5
    for i, (color, r) in enumerate([(a, big if first_big else small), (b, small if first_big else big)]):
        draw_shape(d, shape, w * (0.25 + 0.5 * i), h / 2 + rng.uniform(-1, 1) * (h / 2 - r) * 0.5, r, shade(rng, color))
    large, little = (a, b) if first_big else (b, a)
    q, answer = rng.choice([(f'Which {shape} is larger?', large), (f'Which {shape} is smaller?', little), ('Which color is the larger shape?', large),
                            ('What color is the smaller one?', little), ('Which shape is bigger, the {} or the {} one?'.format(*rng.sample([a, b], 2)), large)])
    return picture, q, answer


def ambiguous(w):
    """Whether nothing but size tells small letters from capitals."""
    return len(w) == 1 or set(w.lower()) <= set('cosuvwxzkpil')


def word_for(rng, split):
    """A word or number to print; in capitals where small letters would look alike."""
    while True:
        u = rng.random()
        w = rng.choice(WORDS) if u < 0.25 else str(rng.randint(0, 10 ** rng.randint(1, 6) - 1)) if u < 0.5 else letters(rng, 1, 6)
        w = w.upper() if rng.random() < 0.5 or ambiguous(w) else w
        if held_out('word' + w.lower()) == (split == 'eval'):
            return w


def draw_word(rng, w):
    name = rng.choice(list(COLORS)) if rng.random() < 0.4 else 'white'
    dark = {'white', 'yellow', 'orange', 'green', 'red'}
    ink = rng.choice(['black', 'blue', 'purple'] if name in dark else ['white', 'yellow'])
    font = ImageFont.truetype(rng.choice(FONTS), rng.randint(40, 90))
    box = font.getbbox(w)
    tw, th = box[2] - box[0], box[3] - box[1]
    mx, my = rng.uniform(0.05, 0.5), rng.uniform(0.15, 1.2)
    width, height = int(tw * (1 + 2 * mx)) + 16, int(th * (1 + 2 * my)) + 16
    height = max(height, width // 4)
    width = max(width, height // 3)
    picture = Pil.new('RGB', (width, height), shade(rng, name))
    x, y = rng.uniform(4, max(5, width - tw - 4)), rng.uniform(4, max(5, height - th - 4))
    ImageDraw.Draw(picture).text((x - box[0], y - box[1]), w, font=font, fill=shade(rng, ink))
    return picture


def ask_word(rng, split):
    w = word_for(rng, split)
    q = ['What number is this?', 'Which number do you see?', 'Read the number.'] if w.isdigit() and rng.random() < 0.5 else \
        ['What does it say?', 'Read the text.', 'What is written here?', 'Read the word in the picture.', 'What text do you see?']
    return draw_word(rng, w), rng.choice(q), w, True


WORD_SHARE = dict(train=0.62, eval=0.5)


def question(rng, split):
    return ask_word(rng, split) if rng.random() < WORD_SHARE[split] else (*rng.choice([ask_shape, ask_shape, ask_count, ask_position, ask_larger])(rng), False)


def one_image(rng, split):
    picture, q, a, spelled = question(rng, split)
    text = '\0' + q if rng.random() < 0.8 else q + ' \0'
    media = [finish(rng, picture, weights=BUDGET_WEIGHTS[split])]
    return Example('one_image', [Turn('user', text, media)], a, spelled=len(a) if spelled else 0)


ORDINAL = ['first', 'second', 'third']


def several_images(rng, split):
    n = rng.choice([2, 2, 3])
    shown = [single_shape(rng) for _ in range(n)]
    budget = rng.choices(BUDGETS[:3], (60, 25, 15))[0]
    media = [finish(rng, p, budget) for p, _, _ in shown]
    i = rng.randrange(n)
    kind = rng.random()
    if kind < 0.4:
        q, a = rng.choice([(f'What shape is in the {ORDINAL[i]} picture?', shown[i][1]), (f'Which color is in the {ORDINAL[i]} image?', shown[i][2]),
                           (f'Describe the {ORDINAL[i]} picture.', f'A {shown[i][2]} {shown[i][1]}.')])
    elif kind < 0.8:
        unique = [j for j in range(n) if sum(s[2] == shown[j][2] for s in shown) == 1]
        if not unique:
            return several_images(rng, split)
        j = rng.choice(unique)
        q, a = rng.choice([f'Which picture shows something {shown[j][2]}?', f'In which image is the {shown[j][2]} shape?']), f'The {ORDINAL[j]}.'
    else:
        (_, s0, c0), (_, s1, c1) = shown[:2]
        n, media = 2, media[:2]
        q = rng.choice(['What is different: shape, color or both?', 'What differs: shape, color, both or nothing?'])
        a = {(True, True): 'both', (True, False): 'shape', (False, True): 'color', (False, False): 'nothing'}[(s0 != s1, c0 != c1)]
    text = '\0' * n + q if rng.random() < 0.6 else ' '.join(f'Picture {k + 1}: \0' for k in range(n)) + ' ' + q
    return Example('several_images', [Turn('user', text, media)], a)
