"""Draws the picture of `look.png`: a dog on grass, which anyone may use.

python docs/images/draw.py docs/images/dog.jpg
sat-tf caption docs/images/dog.jpg --figure docs/images/look.png

The captioner knows photographs only. In brown, and nearer, it takes this dog for a boy.
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 672
FUR, DARK, LIGHT = (40, 34, 32), (24, 20, 20), (214, 176, 128)
# What the dog is made of, from far to near: colour, and ellipses (x, y, width, height,
# angle) in shares of the picture.
DOG = [
    (DARK, [(0.388, 0.672, 0.036, 0.16, 12), (0.588, 0.672, 0.036, 0.16, -10)]),
    (FUR, [(0.3, 0.512, 0.04, 0.176, 50)]),
    (
        FUR,
        [
            (0.476, 0.56, 0.288, 0.136, 0),
            (0.388, 0.568, 0.136, 0.152, 0),
            (0.572, 0.56, 0.136, 0.16, 0),
            (0.62, 0.496, 0.104, 0.16, -35),
            (0.668, 0.432, 0.12, 0.104, 0),
            (0.728, 0.452, 0.096, 0.056, 8),
        ],
    ),
    (LIGHT, [(0.58, 0.6, 0.088, 0.08, 0), (0.732, 0.468, 0.072, 0.028, 8)]),
    (FUR, [(0.364, 0.68, 0.04, 0.168, -10), (0.564, 0.688, 0.04, 0.168, 8)]),
    (LIGHT, [(0.376, 0.76, 0.052, 0.024, 0), (0.56, 0.764, 0.052, 0.024, 0)]),
    (DARK, [(0.632, 0.448, 0.052, 0.12, 12)]),
    ((24, 18, 16), [(0.77, 0.442, 0.026, 0.022, 0), (0.688, 0.42, 0.016, 0.018, 0)]),
]
BALL = ((205, 32, 28), [(0.788, 0.492, 0.06, 0.06, 0)])


def noise(rng, *blurs):
    """Noise in -1..1 at several scales, `[SIZE, SIZE, 1]`."""
    total = np.zeros((SIZE, SIZE))
    for blur in blurs:
        grey = Image.fromarray(rng.uniform(0, 255, (SIZE, SIZE)).astype(np.uint8))
        layer = np.asarray(grey.filter(ImageFilter.GaussianBlur(blur)), float)
        total += (layer - layer.mean()) / (layer.std() + 1e-6)
    return (total / len(blurs) / 2.5)[..., None]


def meadow(rng):
    """Sky, trees and grass."""
    y = np.linspace(0, 1, SIZE)[:, None, None]
    sky = np.array([110, 165, 225]) * (1 - y) + np.array([225, 235, 245]) * y * 1.3
    trees = np.array([46, 82, 40]) * (1 + 0.5 * noise(rng, 5, 14))
    near = np.array([92, 142, 44]) * (0.75 + 0.5 * y)
    blades = noise(rng, 1, 3, 12)
    grass = near * (1 + 0.33 * np.clip((y - 0.3) * 2, 0, 1) * blades)
    edge = 0.20 + 0.03 * noise(rng, 30)
    picture = np.where(y < edge, sky, np.where(y < 0.32, trees, grass))
    return blurred(picture, 5 * (1 - y) ** 2 + 0.01)


def blurred(picture, amount):
    """The far blurred, the near sharp."""
    soft = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    soft = np.asarray(soft.filter(ImageFilter.GaussianBlur(6)), float)
    share = np.clip(amount, 0, 1)
    return share * soft + (1 - share) * picture


def mask_of(ellipses):
    """Where the ellipses are, `[SIZE, SIZE]` in 0..1, with soft edges."""
    whole = Image.new("L", (SIZE, SIZE))
    for x, y, width, height, angle in ellipses:
        one = Image.new("L", (SIZE, SIZE))
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        ImageDraw.Draw(one).ellipse([side * SIZE for side in box], fill=255)
        turned = one.rotate(angle, center=(x * SIZE, y * SIZE))
        whole.paste(255, mask=turned)
    return np.asarray(whole.filter(ImageFilter.GaussianBlur(2)), float) / 255


def lit(colour, mask, rng):
    """Fur with light from above."""
    soft = Image.fromarray((mask * 255).astype(np.uint8))
    soft = np.asarray(soft.filter(ImageFilter.GaussianBlur(22)), float) / 255
    slope = np.gradient(soft)[0] * SIZE / 12
    shade = 0.85 + np.clip(slope, -0.45, 0.5)[..., None] + 0.13 * noise(rng, 1, 2, 6)
    return np.array(colour) * shade


def draw(seed=17):
    """The picture, as a PIL image."""
    rng = np.random.default_rng(seed)
    picture = meadow(rng)
    shadow = mask_of([(0.468, 0.776, 0.4, 0.048, 0)])
    soft = Image.fromarray((shadow * 255).astype(np.uint8))
    shadow = np.asarray(soft.filter(ImageFilter.GaussianBlur(12)), float) / 255
    picture = picture * (1 - 0.55 * shadow[..., None])
    for colour, ellipses in [*DOG, BALL]:
        mask = mask_of(ellipses)
        picture += mask[..., None] * (lit(colour, mask, rng) - picture)
    picture += 4 * rng.standard_normal(picture.shape)
    whole = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return whole.filter(ImageFilter.GaussianBlur(1.2))


if __name__ == "__main__":
    draw().save(sys.argv[1], quality=92)
