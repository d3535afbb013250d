"""Generators of examples, one module a skill. Each has `example(rng, split)`: split 'train' or 'eval'; the two never share a
phrase, name or word list where the skill is about generalising over them."""
from . import arithmetic, images, needle, talk, text_tasks, thinking, tools, video

# name -> (generator, share of the training examples, weight of each learned token)
SKILLS = {
    'talk': (talk.example, 0.08, 1),
    'arithmetic': (arithmetic.example, 0.07, 1),
    'text_tasks': (text_tasks.example, 0.30, 1),
    'one_image': (images.one_image, 0.28, 3),
    'several_images': (images.several_images, 0.05, 3),
    'video': (video.example, 0.02, 2),
    'needle': (needle.example, 0.02, 4),
    'tools': (tools.example, 0.06, 1),
    'thinking': (thinking.example, 0.14, 1),
}
WITH_PICTURES = ('one_image', 'several_images', 'video')
