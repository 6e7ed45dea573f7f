"""Recipes: their names, their settings, and that they state every setting."""

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest

from minise.nn import SE
from minise.train import lr_at, recipes
from minise.train.config import Recipe, TrainConfig, from_dict, to_dict
from minise.train.recipes import QUICK, RECIPES

OF_A_RUN = {"root", "limit", "seed", "threads", "guard", "out", "name"}
OF_A_RUN |= {"log_every", "save_every"}


def test_every_name_has_a_recipe():
    assert tuple(RECIPES) == get_args(Recipe)
    assert all(recipe.recipe == name for name, recipe in RECIPES.items())


def test_quick():
    assert to_dict(QUICK) | {"se": None} == to_dict(TrainConfig()) | {
        "recipe": "quick",
        "ops": "jit",
        "size": 32,
        "val": 0,
        "se": None,
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.247, 0.2435, 0.2616),
    }
    assert QUICK.se == SE(reduction=4)


def test_the_learning_rate_of_quick_by_hand():
    """391 steps per epoch: it rises for 703.8 of 4692 steps, then falls to 1/2 half way, and 0."""

    def lr(step):
        return lr_at(step, 12 * 391, peak=QUICK.lr, schedule="cosine", warmup=QUICK.warmup)

    assert lr(0) == pytest.approx(0.2 / 704)
    assert lr(351) == pytest.approx(0.1)
    assert lr(704) == pytest.approx(0.2, rel=1e-4)
    assert lr(2698) == pytest.approx(0.1, rel=1e-3)
    assert lr(4691) < 1e-7


def test_a_recipe_states_every_setting_that_counts():
    """Changed defaults must not change a recipe."""
    wanted = {field.name for field in fields(TrainConfig)} - OF_A_RUN
    tree = ast.parse(Path(recipes.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    tables = [call for call in calls if ast.unparse(call.func) == "TrainConfig"]
    assert len(tables) == len(RECIPES)
    assert all({keyword.arg for keyword in table.keywords} == wanted for table in tables)


def test_a_recipe_keeps_its_name_where_settings_are_replaced():
    mine = replace(RECIPES["quick"], epochs=1)
    assert (mine.recipe, mine.epochs, mine.ops) == ("quick", 1, "jit")
    assert from_dict(to_dict(mine)) == mine


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe is 'quik', expected one of quick"):
        TrainConfig(recipe="quik")
