"""Generators of examples, one module a skill. Each has `example(rng, split)`: split 'train' or 'eval'; the two never share a
phrase, name or word list where the skill is about generalising over them."""
from . import arithmetic, images, needle, talk, text_tasks, thinking, tools, video

# name -> (generator, share of training examples)
SKILLS = {
    'talk': (talk.example, 0.07),
    'arithmetic': (arithmetic.example, 0.14),
    'text_tasks': (text_tasks.example, 0.20),
    'one_image': (images.one_image, 0.26),
    'several_images': (images.several_images, 0.06),
    'video': (video.example, 0.04),
    'needle': (needle.example, 0.05),
    'tools': (tools.example, 0.10),
    'thinking': (thinking.example, 0.08),
}
