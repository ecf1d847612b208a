r"""Photographs, from people's captions and those of captioners that learned from them.

    sat-tf train --data flickr8k --data-dir DIR --preset flickr --out runs/flickr
    sat-tf tune-trunk --data flickr8k --data-dir DIR --preset flickr \
        --out words.weights.h5
    sat-tf teach runs/flickr --data flickr8k --data-dir DIR --out first.json
    sat-tf train --data first.json --preset flickr_taught --out runs/first \
        --encoder-weights words.weights.h5
    sat-tf teach runs/first --beam 40 --draws 60 --data flickr8k --data-dir DIR \
        --out second.json
    sat-tf train --data second.json --preset flickr_taught --out runs/second \
        --encoder-weights words.weights.h5

A captioner that ranks forty beams shows another what to say at once, and that one shows
a third: five captions of each teacher stand beside the five of people. A pupil begins
alike for all images, and has to look for all that it says, at locations that are finer
than its first teacher's. After the 35 minutes of that one, 41 for the trunk, 8 and 16
for the teachers' captions, and 51 and 33 for the pupils, mostly beside other work on 2
shared cores (2026-11-28); the commands have not been run from first to last, and the
teachers of the shipped captioner were told the mean annotation and had 224 pixels.
Flickr8k dev, 1,000 images, argmax, as it decodes by default, with five beams: BLEU-4
24.2, METEOR 21.4, CIDEr-D 59.7; greedily 23.5, 20.8, 56.7 (the best of three seeds by
CIDEr-D).
"""

from sat_tf.recipes.flickr import RECIPE as FLICKR

RECIPE = FLICKR.replace(
    {
        "model.image_size": (288, 288),
        "model.initial_state": {"name": "learned"},
        "stages.train.epochs": 6,
        "decoding": {
            "decoder": "beam",
            "beam": 5,
            "rerank": {"consensus": 0.3, "alignment": 3.0},
        },
    }
)
