"""The same, taught by a run of `flickr` beside people, and made to look.

    sat-tf teach runs/flickr --data flickr8k --data-dir DIR --out DIR/taught.json
    sat-tf train --data DIR/taught.json --preset flickr_taught \
        --set model.resize_mode=squash --out runs/flickr_taught

The captioner learns a teacher's five best captions of every photograph beside those of
people, is told next to nothing of the image before it looks, and ends with a grounding
that judges beams by where they looked. 32 minutes on 2 cores (2026-11-26), features
cached. Flickr8k dev, argmax, as it decodes by default, BLEU-4 / METEOR of three random
starts: 21.4 / 20.8, 21.8 / 20.6 and 22.3 / 20.8. Random locations cost 2.5 to 3.1
BLEU-4, greedily 3.8 to 4.3.
"""

from sat_tf.recipes.flickr import RECIPE as FLICKR

RECIPE = FLICKR.replace(
    {
        "model.initial_state.dropout": 0.75,
        "model.initial_state.scale": 0.05,
        "model.rerankers.grounding": {
            "hidden_size": 384,
            "dropout": 0.4,
            "input_dropout": 0.3,
        },
        "stages": {
            "warm_up": {"epochs": 2},
            "train": {"epochs": 6},
            "fit_rerankers": {},
        },
        "decoding.rerank": {"consensus": 0.5, "detection": 5.0, "grounding": 0.3},
    }
)
