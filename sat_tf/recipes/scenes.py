"""Drawings, from scratch: what `sat-tf demo` trains.

    sat-tf train --data scenes --preset scenes --out runs/scenes

The label smoothing keeps the decoder from ruling out what it never read.
"""

from sat_tf.recipes.base import Recipe

RECIPE = Recipe().replace(
    {
        "model.trunk": "convnet",
        "model.encoder_weights": None,
        "model.image_size": (112, 112),
        "model.resize_mode": "squash",
        "model.embedding_size": 64,
        "model.hidden_size": 128,
        "model.attention_size": 64,
        "model.dropout": 0.1,
        "estimator": "straight_through",
        "stages": {"warm_up": {"epochs": 3}, "train": {"epochs": 2}},
        "objective.label_smoothing": 0.05,
        "optimizer.learning_rate": 2e-3,
        "optimizer.final_rate": 1e-4,
        "optimizer.clip_norm": 5.0,
        "data.batch_size": 80,
    }
)
