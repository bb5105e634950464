"""Methods as data: one YAML a system, profiles per kind of data."""

from brainalign.recipes.load import (
    load_recipe,
    recipe_keys,
    recipe_names,
    recipe_profiles,
    save_recipe,
    validate_recipe,
)
from brainalign.recipes.recipe import Recipe, TargetSettings

__all__ = [
    "Recipe", "TargetSettings", "load_recipe", "recipe_keys", "recipe_names", "recipe_profiles", "save_recipe",
    "validate_recipe",
]  # fmt: skip
