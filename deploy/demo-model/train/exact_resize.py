"""The published resizing of pictures, bit for bit: bicubic with antialiasing on 8-bit values, first along the width, then along the
height, each rounded to 8 bits; an axis whose size stays is skipped. The same recipe as coordinator/media/resize.cc."""
import numpy as np

MAX_PRECISION = 22      # bits of a weight; fewer if the largest would not stay below 2^15


def kernel(x):
    """The cubic with a = -0.5."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def taps(size, new_size):
    """-> [(first index, weights)] of each output, in float64."""
    scale = size / new_size
    width = max(scale, 1)
    out = []
    for i in range(new_size):
        centre = (i + 0.5) * scale
        first, last = max(0, int(centre - 2 * width + 0.5)), min(size, int(centre + 2 * width + 0.5))
        weights = np.array([kernel((k + 0.5 - centre) / width) for k in range(first, last)])
        out.append((first, weights / weights.sum()))
    return out


def resize_rows(pixels, new_size):
    """Along the first axis of uint8 [size, ...]."""
    if len(pixels) == new_size:
        return pixels
    all_taps = taps(len(pixels), new_size)
    largest = max(w.max() for _, w in all_taps)
    precision = max(p for p in range(MAX_PRECISION + 1) if int(0.5 + largest * 2 ** p) < 2 ** 15)
    out = np.empty((new_size,) + pixels.shape[1:], np.uint8)
    for i, (first, weights) in enumerate(all_taps):
        whole = np.copysign(np.floor(np.abs(weights) * 2 ** precision + 0.5), weights).astype(np.int64)
        total = np.tensordot(whole, pixels[first:first + len(whole)].astype(np.int64), 1)
        out[i] = np.clip((total + (1 << (precision - 1))) >> precision, 0, 255)
    return out


def resize(pixels, height, width):
    """uint8 [h, w, 3] -> uint8 [height, width, 3]"""
    return resize_rows(resize_rows(pixels.transpose(1, 0, 2), width).transpose(1, 0, 2), height)
