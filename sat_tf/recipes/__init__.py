"""Recipes: everything a training run needs to know besides its data.

A recipe is one file with a `RECIPE` in it and one line in `RECIPES`.
"""

from sat_tf.recipes.base import Recipe
from sat_tf.runtime.registry import Registry

__all__ = ["RECIPES", "Recipe"]

RECIPES = Registry(
    "recipe",
    paper="sat_tf.recipes.paper:RECIPE",
    arctic="sat_tf.recipes.arctic:RECIPE",
    scenes="sat_tf.recipes.scenes:RECIPE",
    flickr="sat_tf.recipes.flickr:RECIPE",
    flickr_taught="sat_tf.recipes.flickr_taught:RECIPE",
)
