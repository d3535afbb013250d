"""Videos of coloured frames: their order, and the frame at a given time."""
from PIL import Image as Pil

from chat import Example, Turn
from .images import COLORS, finish, shade


def example(rng, split):
    n = rng.randint(2, 5)
    colors = [rng.choice(list(COLORS))]
    while len(colors) < n:
        colors.append(rng.choice([c for c in COLORS if c not in colors]))
    size, step = (rng.randint(160, 300), rng.randint(160, 300)), rng.randint(1, 5)
    frames, times = [], [i * step for i in range(n)]
    for t, color in zip(times, colors):
        frames.append(finish(rng, Pil.new('RGB', size, shade(rng, color)), 70, f'{t // 60:02d}:{t % 60:02d}'))
    i = rng.randrange(n)
    q, a = rng.choice([
        ('In which order do the colors appear?', ', '.join(colors)), ('List the colors in order.', ', '.join(colors)),
        (f'Which color is shown at {times[i] // 60:02d}:{times[i] % 60:02d}?', colors[i]), (f'What color do you see at second {times[i]}?', colors[i]),
        ('Which color comes first?', colors[0]), ('Which color comes last?', colors[-1])])
    return Example('video', [Turn('user', q, frames)], a)
