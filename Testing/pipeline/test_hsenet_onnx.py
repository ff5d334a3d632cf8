"""HSENet's encoders and packers in ONNX Runtime give what PyTorch gives; only verified files run."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline.hsenet_release import random_states, small_cards, write_release

from ct3d.cards import load_card
from ct3d.errors import TaskCancelled, WeightsCorrupt, WeightsMissing
from ct3d.models.hsenet import Encoder, EncoderConfig, GuidedEncoder, PackerConfig, build_packer
from ct3d.pipeline import hsenet_onnx
from ct3d.pipeline.hsenet_convert import convert_folder
from ct3d.pipeline.hsenet_onnx import export_encoder, export_packer
from ct3d.pipeline.job import build_model
from ct3d.pipeline.onnx_part import OnnxPart

pytest.importorskip("onnxruntime", reason="it is in requirements-onnx.txt")
pytest.importorskip("onnxscript", reason="the exporter is in requirements-onnx.txt")

CONFIG = EncoderConfig((4, 32, 32), (2, 4, 4), 1, 24, 1, 3, 32)
SIZES = [CONFIG.image_size, (6, 16, 32)]  # the one that positions are learned for, and another
RELATIVE = 1e-4
CHECK = int  # may be called, and does nothing


def off(ours, theirs):
    """Greatest difference, as a part of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def randomised(net):
    torch.manual_seed(0)
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.randn_like(each) * 0.2)
    return net.eval()


@pytest.fixture(scope="module")
def an_onnx_home(tmp_path_factory):
    """(folder of weights, function: card id → its card in ONNX Runtime)."""
    folder = tmp_path_factory.mktemp("home")
    release = write_release(folder / "release", random_states())
    told = {"license_": "made up", "source": "made up"}
    convert_folder(release, folder / "weights", cards=small_cards(folder / "cards"), **told)
    weights = folder / "weights"
    return weights, lambda id_: replace(load_card(id_, weights / "cards"), runtime="onnx")


@pytest.fixture
def a_view():
    """A volume of the small cards' size, and grey slices of it."""
    chance = np.random.default_rng(0)
    return chance.random((4, 32, 32), np.float32), chance.integers(0, 256, (6, 40, 50), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [Encoder, GuidedEncoder])
def test_an_exported_encoder_gives_the_same_tokens_for_any_number_of_slices(kind, size, tmp_path):
    net, path = randomised(kind(CONFIG)), tmp_path / "encoder.onnx"
    export_encoder(net, size, path)
    part = OnnxPart(path)
    for count in (1, 5, 32):
        volume, slices = torch.rand(1, 1, *size), torch.randn(1, count, CONFIG.dim)
        with torch.no_grad():
            assert off(part(volume, slices), net(volume, slices)) < RELATIVE


@pytest.mark.parametrize("grid", [(2, 8, 8), (3, 4, 8)])
@pytest.mark.parametrize("kind", ["spatial", "pool_mlp"])
def test_an_exported_packer_gives_the_same_tokens(kind, grid, tmp_path):
    net, path = randomised(build_packer(PackerConfig(kind, (1, 4, 4), 24, 32))), tmp_path / "packer.onnx"
    export_packer(net, grid, path)
    tokens = torch.randn(1, grid[0] * grid[1] * grid[2], 24)
    with torch.no_grad():
        assert off(OnnxPart(path)(tokens, grid), net(tokens, grid)) < RELATIVE


def test_a_card_that_says_onnx_reads_a_scan_as_one_that_says_torch(an_onnx_home, a_view, monkeypatch):
    folder, card_of = an_onnx_home
    card, (volume, slices) = card_of("hsenet_ct_rate"), a_view
    plain, fast = (build_model(each, (folder,)) for each in (replace(card, runtime="torch"), card))
    there = sorted(path.name for path in folder.glob("*-onnx1/*.onnx"))
    assert there == [f"{each}.{name}.onnx" for each in ("packers", "towers") for name in ("global", "guided")]
    assert sum(isinstance(each, OnnxPart) for each in fast.net.modules()) == 4
    assert not any(isinstance(each, Encoder) for each in fast.net.modules())
    assert fast.memory_bytes >= plain.memory_bytes
    told = []
    for model in (plain, fast):
        visual = model.visual(volume, model.slice_features(slices, CHECK), CHECK)
        sight = model.read(visual, CHECK)
        told.append((visual, model.write(sight, "what is there", on_piece=lambda _: None, max_tokens=8)))
    assert off(told[1][0], told[0][0]) < RELATIVE
    assert told[1][1] == told[0][1]
    monkeypatch.delattr(hsenet_onnx, "export")  # what was written serves the next time
    again = build_model(card, (folder,))
    assert torch.equal(again.visual(volume, again.slice_features(slices, CHECK), CHECK), told[1][0])


def test_the_contrastive_model_has_its_encoder_in_onnx_too(an_onnx_home, a_view):
    folder, card_of = an_onnx_home
    card, (volume, slices) = card_of("hsenet_clip_stage2"), a_view
    vectors = []
    for model in (build_model(each, (folder,)) for each in (replace(card, runtime="torch"), card)):
        vectors.append(model.embed_volume(volume, model.slice_features(slices, CHECK), CHECK))
    assert isinstance(model.net.net.vision, OnnxPart)
    assert np.abs(vectors[1] - vectors[0]).max() < RELATIVE * np.abs(vectors[0]).max()


def test_a_file_that_was_changed_is_refused(an_onnx_home):
    folder, card_of = an_onnx_home
    build_model(card_of("hsenet_clip_stage1"), (folder,))
    path = next(folder.glob("hsenet_clip_stage1-*-onnx1/vision.onnx"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsCorrupt, match="Delete its folder"):
        build_model(card_of("hsenet_clip_stage1"), (folder,))


@pytest.mark.parametrize("lacking", ["onnxruntime", "onnxscript"])
def test_without_a_package_the_card_says_what_to_install(lacking, an_onnx_home, monkeypatch):
    folder, card_of = an_onnx_home
    monkeypatch.setattr(hsenet_onnx, "find_spec", lambda name: None if name == lacking else object())
    with pytest.raises(WeightsMissing, match=f"lacks {lacking}.*requirements-onnx.txt"):
        build_model(replace(card_of("hsenet_radgenome")), (folder,))


def test_a_stop_ends_a_run_and_the_next_one_is_whole(tmp_path):
    config = EncoderConfig((16, 128, 128), (2, 4, 4), 1, 48, 2, 3, 96)
    net, path = randomised(Encoder(config)), tmp_path / "net.onnx"
    export_encoder(net, net.config.image_size, path)
    part, volume = OnnxPart(path), torch.rand(1, 1, *net.config.image_size)

    def stop():
        raise TaskCancelled("Stopped.")

    part.check = stop
    started = time.perf_counter()
    with pytest.raises(TaskCancelled):
        part(volume)
    stopped_after = time.perf_counter() - started
    del part.check
    started = time.perf_counter()
    with torch.no_grad():
        assert off(part(volume), net(volume)) < RELATIVE
    assert stopped_after < time.perf_counter() - started
