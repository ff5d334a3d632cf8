import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ct3d.cards import load_card
from ct3d.errors import WeightsMissing
from ct3d.models.threedme import Config
from ct3d.protocol.codec import decode
from ct3d.training import train_h3denet
from ct3d.training.places import find_start
from ct3d.training.train_h3denet import build, read_recipe
from ct3d.training.train_threedme import Recipe, config_of

RECIPES = sorted((Path(train_h3denet.__file__).parent / "recipes").glob("*headneck*.toml"))
PRETRAINING = sorted(RECIPES[0].parent.glob("threedme*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_makes_a_net_for_its_card(path):
    recipe = read_recipe(path)
    assert sum(each.numel() for each in build(recipe, load_card(recipe.card)).parameters()) > 1e6


def test_the_shipped_weights_fit_the_net_of_the_recipe_that_goes_on():
    recipe = read_recipe(next(path for path in RECIPES if path.stem.endswith("_more")))
    card = load_card(recipe.card)
    build(recipe, card).load_state_dict(load_file(find_start(card.weights.file)))


def test_weights_to_go_on_from_that_are_not_there_are_told_with_what_to_do():
    with pytest.raises(WeightsMissing, match="Train its recipe first"):
        find_start("nowhere.safetensors")


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_every_recipe_of_pretraining_is_read_and_makes_the_card_s_encoder(path):
    recipe = decode(Recipe, tomllib.loads(path.read_text("utf-8")), path.name)
    assert config_of(recipe) == Config(**load_card("threedme_tiny").config)
    assert sum(each.share for each in recipe.layouts) == pytest.approx(1)
