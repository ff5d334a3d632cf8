"""Every shipped card is valid, and a broken one says what is wrong with it."""

import hashlib
from importlib.util import find_spec

import pytest

from ct3d import cards
from ct3d.cards import cards_folder, find_weights, load_card, load_cards
from ct3d.errors import InvalidRequest, WeightsCorrupt, WeightsMissing

CARDS = load_cards(cards_folder())
GOOD = """
card = 1
id = "test"
title = "A test"
role = "segment"
entry = "ct3d.models.test:Test"
license = "Apache-2.0"
intended_use = "Tests."
source = ["here"]
[weights]
file = "test-1.0.0.safetensors"
sha256 = "{sha256}"
"""


@pytest.fixture
def a_card(tmp_path):
    """Makes a card from its text; loads it."""

    def make(text: str = GOOD, name: str = "test"):
        (tmp_path / f"{name}.toml").write_text(text.replace("{sha256}", hashlib.sha256(b"w").hexdigest()))
        return load_card(name, tmp_path)

    return make


def test_there_are_cards():
    assert {card.role for card in CARDS} >= {"segment", "language"}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_shipped_card_says_what_a_person_must_know(card):
    assert card.license
    assert card.source
    assert card.intended_use.endswith(".")
    assert not card.tiny or set(card.tiny) <= set(card.config)
    assert card.sha256 == hashlib.sha256((cards_folder() / f"{card.id}.toml").read_bytes()).hexdigest()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_the_entry_of_a_shipped_card_is_a_module_of_ours(card):
    module, _, name = card.entry.partition(":")
    assert module.startswith("ct3d.")
    assert find_spec(module) is not None
    assert name.isidentifier()


@pytest.mark.parametrize("card", [card for card in CARDS if card.weights], ids=lambda card: card.id)
def test_shipped_weights_are_never_pickles_and_have_a_checksum(card):
    assert not card.weights.file.endswith((".pt", ".pth", ".bin", ".pkl", ".ckpt"))
    assert len(bytes.fromhex(card.weights.sha256)) == 32


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_landmarks_of_a_card_are_named_once(card):
    ids = [landmark.id for landmark in card.landmarks]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("card", [card for card in CARDS if card.limits], ids=lambda card: card.id)
def test_the_limits_of_a_card_are_about_its_own_landmarks_and_can_be_kept(card):
    limits, ids = card.limits, {landmark.id for landmark in card.landmarks}
    tables = (limits.distances_mm, limits.height_difference_mm, limits.width_difference_mm)
    named = [limits.midline] if limits.midline else []
    named += [name for pair in (*limits.pairs, *limits.above, *limits.in_front) for name in pair]
    named += [name for table in tables for both in table for name in both.split()]
    assert set(named) <= ids
    assert all(len(both.split()) == 2 for table in tables for both in table)
    assert all(0 <= least < most for least, most in limits.distances_mm.values())
    sides = {landmark.id: landmark.side for landmark in card.landmarks if landmark.side != "none"}
    assert all(sides.get(right, "right") == "right" for right, _ in limits.pairs)
    assert all(sides.get(left, "left") == "left" for _, left in limits.pairs)


def test_a_landmark_id_names_one_landmark_whatever_the_card():
    ids = [landmark.id for card in CARDS for landmark in card.landmarks]
    assert len(set(ids)) == len(ids)


def test_a_card_that_is_not_there_names_those_that_are():
    with pytest.raises(InvalidRequest, match=CARDS[0].id):
        load_card("no_such_card")


@pytest.mark.parametrize("name", ["../test", "", "test.toml", "/etc/passwd"])
def test_a_card_is_only_found_by_its_id(name, a_card, tmp_path):
    a_card()
    with pytest.raises(InvalidRequest, match="no model card"):
        load_card(name, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("card = 1", "card = 2", "card = 1"),
        ('id = "test"', 'id = "other"', "id = 'test'"),
        ('role = "segment"', 'role = "paint"', "role"),
        ('license = "Apache-2.0"', "", "license"),
        ('title = "A test"', 'title = "A test"\ncolour = "red"', "colour"),
        ("card = 1", "card = ", "TOML"),
        ("card = 1", 'card = 1\nruntime = "quick"', "runtime"),
        ("card = 1", 'card = 1\nruntime = "onnx"', "role segment has no runtime"),
    ],
)
def test_a_broken_card_says_what_is_wrong(a_card, old, new, words):
    with pytest.raises(InvalidRequest, match=words):
        a_card(GOOD.replace(old, new))


def test_a_card_of_this_machine_stands_before_a_shipped_one(a_card, tmp_path, monkeypatch):
    text = (cards_folder() / "hsenet_ct_rate.toml").read_text(encoding="utf-8")
    a_card(text.replace('license = "', 'license = "MIT. '), "hsenet_ct_rate")
    assert not load_card("hsenet_ct_rate").license.startswith("MIT")
    monkeypatch.setattr(cards, "own_cards_folder", lambda: tmp_path)
    assert load_card("hsenet_ct_rate").license.startswith("MIT")
    assert [card.id for card in load_cards()] == [card.id for card in CARDS]
    assert load_card("hsenet_radgenome").obtain


def test_weights_are_found_and_checked(a_card, tmp_path):
    card = a_card()
    with pytest.raises(WeightsMissing, match="doctor --install"):
        find_weights(card, (tmp_path,))
    (tmp_path / card.weights.file).write_bytes(b"w")
    assert find_weights(card, (tmp_path,)) == tmp_path / card.weights.file
    (tmp_path / card.weights.file).write_bytes(b"something else")
    with pytest.raises(WeightsCorrupt, match="Delete it"):
        find_weights(card, (tmp_path,))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / card.weights.file).write_bytes(b"w")
    right = tmp_path / "own" / card.weights.file
    assert find_weights(card, (tmp_path, tmp_path / "own")) == right  # a broken copy hides no right one
