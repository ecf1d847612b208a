"""Photographs, from people's captions and those of a captioner that learned from them.

    sat-tf train --data flickr8k --data-dir DIR --preset flickr --out runs/flickr
    sat-tf teach runs/flickr --data flickr8k --data-dir DIR --out taught.json
    sat-tf train --data taught.json --preset flickr_taught --out runs/flickr_taught

A captioner that ranks forty beams shows another what to say at once: five of its beams
stand beside the five captions of people. 8 minutes for the teacher's captions and 48
for this training, beside other work on 2 shared cores (2026-11-27), after the 35 of
the teacher. Flickr8k dev, 1,000 images, argmax, as it decodes by default, with five
beams: BLEU-4 23.0, METEOR 20.9, CIDEr-D 55.5; greedily 22.6, 20.6, 53.7.
"""

from sat_tf.recipes.flickr import RECIPE as FLICKR

RECIPE = FLICKR.replace(
    {
        "stages.train.epochs": 6,
        "decoding": {
            "decoder": "beam",
            "beam": 5,
            "rerank": {"consensus": 0.3, "alignment": 2.0},
        },
    }
)
