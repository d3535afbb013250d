"""Word lists and the split between training and evaluation."""
import hashlib

NAMES = ('Ada Ben Cleo Dan Eva Finn Gina Hugo Iris Jack Kira Liam Mona Nils Olga Paul Rosa Sam Tina Uma Vera Will Yara Zoe Amir Bela Carl Dora '
         'Emil Fay Greta Hans Ines Jon Kurt Lena Max Nina Otto Pia Ralf Sara Tom Ute Vito Wendy Xena Yuri').split()
CITIES = ('Rome Paris Berlin Madrid Vienna Oslo Lisbon Prague Dublin Athens Cairo Tokyo Lima Quito Delhi Sydney Boston Denver Lagos Nairobi '
          'Seoul Hanoi Warsaw Zurich Geneva Munich Naples Porto Kyoto Bergen').split()
THINGS = ('apple pear plum cherry lemon grape melon peach carrot potato onion tomato bread cheese butter honey sugar salt pepper rice table chair '
          'lamp window door carpet pillow blanket mirror clock pencil paper ruler book letter stamp bottle glass spoon fork knife plate bowl pan '
          'hammer nail screw rope ladder bucket brush ticket wallet key coin ring watch shirt shoe scarf glove jacket button garden river forest '
          'mountain island harbor bridge tower castle temple market station engine wheel rocket planet comet robot violin guitar piano drum').split()
ANIMALS = 'dog cat horse cow sheep goat pig hen duck goose fox wolf bear lion tiger zebra camel whale shark eagle owl snake frog mouse'.split()
COLORS = 'red green blue yellow black white orange purple'.split()


def held_out(key: str, share: float = 0.1) -> bool:
    """Whether `key` (a phrase, a combination) belongs to the evaluation."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], 'big') < share * 2 ** 32


def pick(rng, make, split):
    """Draws from make(rng) -> (key, value) until the key is on the side of `split`; None: kept apart in another way."""
    while True:
        key, result = make(rng)
        if key is None or held_out(key) == (split == 'eval'):
            return result


def letters(rng, low, high):
    """A pronounceable or a random word."""
    n = rng.randint(low, high)
    if rng.random() < 0.5:
        return ''.join(rng.choice('bcdfghjklmnprstvwz' if (i + n) % 2 else 'aeiou') for i in range(n))
    return ''.join(rng.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(n))
