"""A captioner of images with random weights that says something else of each."""

import keras
import numpy as np

from sat_tf import Encoder, ShowAttendTell

WORDS = [f"{colour}-{shape}" for colour in "rgb" for shape in "stx"]


def small_captioner(
    trunk="convnet",
    hidden_size=12,
    seed=17,
    words=WORDS,
    resize_mode="crop",
    **options,
):
    """Of images of 64 x 64 pixels, or of 8 x 8 features with the trunk `none`."""
    brought = {"features_shape": (8, 8, 6)} if trunk == "none" else {}
    keras.utils.set_random_seed(seed)
    captioner = ShowAttendTell(
        words,
        encoder=Encoder(trunk, image_size=(64, 64), resize_mode=resize_mode, **brought),
        embedding_size=8,
        hidden_size=hidden_size,
        attention_size=8,
        **options,
    )
    rng = np.random.default_rng(seed)
    for variable in captioner.variables:
        if len(variable.shape) > 1:
            width = 2 / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, width, variable.shape))
    return captioner
