"""What kelvinxu/arctic-captions (f4565bf) does when run with train()'s defaults.

    sat-tf train --data flickr8k --data-dir DIR --preset arctic --out runs/arctic

docs/paper.md lists how it differs from the paper. Not run to its end.
"""

from sat_tf.recipes.paper import RECIPE as PAPER

RECIPE = PAPER.replace(
    {
        "model.output_activation": "tanh",
        "model.embedding_size": 100,
        "model.hidden_size": 1000,
        "model.dropout": 0.0,
        "estimator.reward": "per_word",
        "estimator.lambda_r": 0.1,
        "estimator.lambda_e": 0.002,
        "estimator.batch_sum": True,
        "estimator.coin": "step",
        "decoding.attention": "expected",
        "data.batch_size": 16,
    }
)
