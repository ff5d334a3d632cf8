"""The contract of every card's model: it builds offline, from its card alone, and gives the same twice."""

import socket
from functools import cache

import numpy as np
import pytest

from ct3d.cards import load_card, load_cards
from ct3d.errors import WeightsMissing
from ct3d.imaging.volume import Volume
from ct3d.pipeline.job import LocalJob, build_model

FACES = {"segment": ("segment",), "language": ("write",), "landmarks": ("place",), "findings": ("find",)}
CARDS = load_cards()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a model reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def built():
    """Function: a card → its model, built once; skips where its weights are not here."""

    @cache
    def model(card_id):
        return build_model(load_card(card_id))

    def build(card):
        try:
            return model(card.id)
        except WeightsMissing as error:
            pytest.skip(str(error))

    return build


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_model_builds_from_its_card_and_has_the_face_of_its_role(card, built):
    model = built(card)
    assert all(callable(getattr(model, verb)) for verb in FACES[card.role])


@pytest.mark.parametrize("card", [each for each in CARDS if each.role == "segment"], ids=lambda card: card.id)
def test_a_segmenter_gives_the_same_masks_twice_on_the_native_grid(card, built, tmp_path):
    volume = Volume(np.full((12, 20, 24), -1000, np.int16), np.diag([-3.0, -3.0, 5.0, 1.0]))
    volume.array[2:10, 4:16, 4:20] = 40
    first, second = (built(card).segment(volume, LocalJob(tmp_path)) for _ in range(2))
    assert first.regions == second.regions
    for name, layer in first.layers.items():
        assert layer.shape == volume.array.shape
        assert layer.dtype == np.uint8
        assert (layer == second.layers[name]).all()


@pytest.mark.parametrize(
    "card", [each for each in CARDS if each.role == "language"], ids=lambda card: card.id
)
def test_a_language_model_is_greedy_at_temperature_zero(card, built):
    messages = [{"role": "user", "content": "Say in three words what a lung does."}]
    greedy = {"on_piece": lambda _piece: None, "max_tokens": 12, "temperature": 0.0}
    texts = {built(card).write(messages, seed=seed, **greedy) for seed in (1, 2)}
    assert len(texts) == 1
    assert texts.pop().strip()
