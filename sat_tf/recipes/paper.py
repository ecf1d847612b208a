"""The update rule of Xu et al. 2015, p. 5, on the paper's encoder.

    sat-tf train --data flickr8k --data-dir DIR --preset paper --out runs/paper

Its lambdas were found by cross-validation and were not published: these are ours. The
rule was measured with the trunk and the sizes of `flickr`, see
docs/results/photographs.md; with VGG19 it has not been run to its end.
"""

from sat_tf.recipes.base import Recipe

RECIPE = Recipe().replace(
    {
        "model.trunk": "vgg19",
        "estimator.lambda_r": 1.0,
        "estimator.lambda_e": 0.01,
        "estimator.semi_sampling": 0.5,
        "optimizer.name": "rmsprop",
        "optimizer.learning_rate": 1e-4,
        "optimizer.final_rate": 1e-4,
    }
)
