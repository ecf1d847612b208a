"""Photographs, from the features of a frozen trunk.

    sat-tf train --data flickr8k --data-dir DIR --preset flickr \
        --set model.resize_mode=squash --out runs/flickr

25 minutes on 2 cores, the cache of the features included (2026-11-25). Flickr8k dev,
1,000 images, argmax, as it decodes by default: BLEU-4 21.8, METEOR 20.5, CIDEr-D 54.7;
greedily 18.0, 18.8, 44.3. Without `input_dropout` an earlier captioner learned the
captions by heart from the eighth epoch on.
"""

from sat_tf.recipes.base import Recipe

RECIPE = Recipe().replace(
    {
        "model.trunk": "mobilenet_7x7",
        "model.embedding_size": 256,
        "model.attention_size": 256,
        "model.dropout": 0.4,
        "model.input_dropout": 0.3,
        "model.rerankers.detection": {
            "hidden_size": 512,
            "dropout": 0.4,
            "input_dropout": 0.3,
        },
        "estimator": "straight_through",
        "stages": {"warm_up": {"epochs": 4}, "train": {"epochs": 9}},
        "objective.label_smoothing": 0.1,
        "optimizer.final_rate": 2e-5,
        "optimizer.clip_norm": 5.0,
        "data.min_count": 5,
        "decoding": {
            "decoder": "beam",
            "beam": 40,
            "rerank": {"consensus": 0.3, "detection": 3.0},
        },
    }
)
