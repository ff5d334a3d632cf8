"""The contract of every card's model: it builds offline, from its card alone, and gives the same twice."""

import socket
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ct3d.cards import load_card, load_cards
from ct3d.errors import WeightsMissing
from ct3d.imaging.volume import Volume
from ct3d.pipeline.hsenet_reader import built_aligner, built_reader, language_of, load
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.landmark_net import build_net, load_weights

FACES = {"segment": ("segment",), "language": ("write",), "landmarks": ("place",), "findings": ("find",)}
FACES |= {each: ("slice_features", "visual", "read", "write") for each in ("report", "answer")}
FACES |= {"retrieve": ("slice_features", "embed_volume", "embed_text")}
FACES |= {"encoder": ("encoder", "spatial")}
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


NETS = [each for each in CARDS if each.heatmaps]


@pytest.fixture
def a_tiny_net():
    """Function: a card → its net in the tiny config, with random weights."""

    def build(card):
        torch.manual_seed(0)
        return build_net(replace(card, config=card.tiny)).eval()

    return build


@pytest.mark.parametrize("card", NETS, ids=lambda card: card.id)
@pytest.mark.parametrize("shape", [(32, 24, 24), (17, 9, 30), (1, 5, 3)])
def test_a_net_gives_a_map_of_the_input_s_size_for_each_landmark_of_its_card(card, shape, a_tiny_net):
    net, given = a_tiny_net(card), torch.rand(2, 2, *shape)
    with torch.inference_mode():
        first, second = net(given), net(given)
    assert first.shape == (2, len(card.landmarks), *shape)
    assert torch.equal(first, second)
    assert first.isfinite().all()


@pytest.mark.parametrize("card", NETS, ids=lambda card: card.id)
def test_every_parameter_of_a_net_gets_a_gradient(card, a_tiny_net):
    net = a_tiny_net(card)
    net(torch.rand(1, 2, *card.heatmaps.window_kji)).square().mean().backward()
    without = [name for name, each in net.named_parameters() if each.grad is None or not each.grad.any()]
    assert not without


@pytest.mark.parametrize("card", NETS, ids=lambda card: card.id)
def test_a_net_s_weights_survive_their_file_in_half_precision(card, a_tiny_net, tmp_path):
    net = a_tiny_net(card)
    halves = {name: value.half() for name, value in net.state_dict().items()}
    save_file(halves, tmp_path / "weights.safetensors")
    again = load_weights(build_net(replace(card, config=card.tiny)), tmp_path / "weights.safetensors")
    for name, value in again.state_dict().items():
        assert value.dtype == net.state_dict()[name].dtype
        assert torch.equal(value, halves[name].to(value.dtype))


@pytest.mark.parametrize("card", NETS, ids=lambda card: card.id)
def test_the_full_net_of_a_card_is_small_enough_to_come_with_the_program(card):
    assert sum(each.numel() * 2 for each in build_net(card).state_dict().values()) < 12e6


@pytest.mark.parametrize("card", NETS, ids=lambda card: card.id)
def test_a_landmark_net_gives_every_landmark_of_its_card_and_the_same_twice(card, built, tmp_path):
    values = np.random.default_rng(0).integers(-1000, 1500, (20, 40, 40), dtype=np.int16)
    volume = Volume(values, np.diag([-4.0, -4.0, 5.0, 1.0]))
    first, second = (built(card).place(volume, LocalJob(tmp_path)) for _ in range(2))
    assert first == second
    assert [each.id for each in first.landmarks] == [each.id for each in card.landmarks]


PUBLISHED = [each for each in CARDS if each.obtain]  # weights that a person converts


def nets_of(card, values):
    """The nets of a reader or an aligner, without numbers."""
    if card.role == "retrieve":
        return built_aligner(values)
    return built_reader(values, language_of(values["language"]))


@pytest.mark.parametrize("card", PUBLISHED, ids=lambda card: card.id)
def test_a_tiny_net_of_a_converted_card_takes_a_state_by_name_and_gives_the_same_twice(card):
    nets, again = (nets_of(card, card.tiny) for _ in range(2))
    state = {name: torch.rand(value.shape) for name, value in nets.state_dict().items()}
    for each in (nets, again):
        load(each.eval(), {name: value.clone() for name, value in state.items()}, card)
    encoder = card.tiny["encoder"]
    volume, slices = torch.rand(1, 1, *encoder["image_size"]), torch.rand(1, 3, encoder["dim"])
    whole = "image_features" if card.role == "retrieve" else "visual_tokens"
    with torch.inference_mode():
        first, second = (getattr(each["net"], whole)(volume, slices) for each in (nets, again))
    assert torch.equal(first, second)
    assert first.isfinite().all()


@pytest.mark.parametrize("card", PUBLISHED, ids=lambda card: card.id)
def test_the_full_config_of_a_converted_card_names_the_same_fields_as_the_tiny_one(card):
    for name, values in card.tiny.items():
        if isinstance(values, dict) and name != "language":  # the weights file knows the rest of that
            assert card.config[name].keys() == values.keys()
