"""HSENet's training: eight synthetic pairs are learned by heart, in one go or in two, the result answers."""

import json
import os
import sys
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline.hsenet_release import WORDS, random_states, small_cards, write_release
from safetensors.torch import load_file

from ct3d.cards import load_card
from ct3d.case import Case
from ct3d.client.client import Client
from ct3d.client.transport import PopenTransport
from ct3d.errors import InvalidRequest, WeightsCorrupt
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.files import read_volume, write_volume
from ct3d.imaging.volume import Volume
from ct3d.pipeline.hsenet_convert import convert_folder
from ct3d.protocol.codec import decode
from ct3d.protocol.tasks import ReportParams
from ct3d.training.loop import Schedule
from ct3d.training.report_data import Looks, Pair, Question, build, look_at, read_index
from ct3d.training.train_hsenet import Lora, Recipe, train

STILL = Looks(turn=0, mirror=0, scale=0, shift=0)
CARD = "hsenet_ct_rate"
FILE = f"{CARD}.safetensors"
CASE = Path(__file__).parents[1] / "golden" / "case_made_up.json"
CODE = Path(__file__).parents[2] / "CT3DAssistant"
ENCODER = {"image_size": [4, 32, 32], "patch_size": [2, 4, 4], "dim": 24, "heads": 3, "mlp_dim": 32}


@pytest.fixture(scope="module")
def a_place(tmp_path_factory):
    """Small cards, and their weights as converted from a made-up release."""
    folder = tmp_path_factory.mktemp("hsenet")
    cards = small_cards(folder / "cards")
    release = write_release(folder / "release", random_states())
    convert_folder(release, folder / "weights", cards=cards, license_="made up", source="made up")
    return folder


@pytest.fixture(scope="module")
def pairs(a_place):
    """Eight synthetic scans, each with a report of its own."""
    folder = a_place / "scans"
    folder.mkdir()
    for n in range(8):
        rng = np.random.default_rng(n)
        array = np.full((20, 40, 40), -1000, np.int16)
        array[1:19, 2:38, 2:38] = -900
        k, j, i = (1 + 9 * (n & 1), 2 + 9 * (n & 2), 2 + 9 // 2 * (n & 4))  # another corner for each
        array[k : k + 9, j : j + 18, i : i + 18] = 200
        write_volume(folder / f"synthetic_{n}.nii.gz", Volume(array, np.diag([2.0, 2.0, 3.0, 1.0])))
        said = " ".join(rng.choice(WORDS[1:50], 6 + n % 3))
        (folder / f"synthetic_{n}.txt").write_text(said)
        (folder / f"synthetic_{n}.json").write_text(json.dumps([{"question": "where ?", "answer": said[:9]}]))
    build(folder, a_place / "index.jsonl")
    return read_index(a_place / "index.jsonl")


def weights_of(place, card):
    return str(next((place / "weights").glob(f"{card}*.safetensors")))


@pytest.fixture
def a_recipe(a_place):
    return Recipe(
        stage="report",
        card=CARD,
        seed=1,
        schedule=Schedule(
            400, batch=8, learning_rate=6e-3, weight_decay=0, warm_up=20, average=0, is_bf16=False
        ),
        start=weights_of(a_place, CARD),
        fresh=("net.",),
        looks=STILL,
        length=40,
    )


def test_eight_pairs_are_learned_by_heart_in_one_go_or_in_two_and_answered(
    a_place, pairs, a_recipe, tmp_path
):
    cards, weights = a_place / "cards", tmp_path / ".cache" / "ct3d" / "weights"
    train(a_recipe, pairs, weights, cards=cards)
    train(a_recipe, pairs, tmp_path / "parts", cards=cards, until=200)
    assert not (tmp_path / "parts" / FILE).exists()
    train(a_recipe, pairs, tmp_path / "parts", cards=cards)
    whole, parts = (load_file(folder / FILE) for folder in (weights, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert told_by_a_worker(tmp_path, pairs) == [each.report for each in pairs]


def told_by_a_worker(home, pairs):
    """What a real worker reports of the pairs' scans, whose home folder holds the trained weights."""
    transport = partial(PopenTransport, environment={**os.environ, "HOME": str(home)})
    client = Client([sys.executable, "-m", "ct3d.worker"], home, folder=CODE, transport=transport)
    case, told = Case.from_json(CASE.read_text(encoding="utf-8")), []
    try:
        for pair in pairs:
            ref = store_volume(read_volume(Path(pair.volume))[0], home)
            here = replace(case, input=replace(case.input, sha256=ref.array.sha256))
            result = client.wait(client.submit("report", ReportParams(here, CARD, volume=ref)))
            told.append(" ".join(sentence.text for sentence in result.sentences))
    finally:
        client.close()
    return told


def short(recipe, **changes):
    """Two steps of a recipe."""
    return replace(recipe, schedule=replace(recipe.schedule, steps=2, batch=2), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"towers": "global"},
        {"towers": "guided"},
        {"is_packer_shared": True},
        {"packer": {"kind": "spatial", "window": [2, 2, 2], "dim": 24, "out_dim": 32, "layers": 2}},
        {"packer": {"kind": "pool_mlp", "window": [1, 4, 4], "dim": 24, "out_dim": 32, "layers": 2}},
        {"packer": {"kind": "pool_linear", "window": [1, 4, 4], "dim": 24, "out_dim": 32, "layers": 1}},
        {"packer": {"kind": "sequence", "window": [1, 4, 4], "dim": 24, "out_dim": 32, "layers": 2}},
    ],
    ids=["global", "guided", "shared", "larger window", "pool_mlp", "pool_linear", "sequence"],
)
def test_an_ablation_is_a_field_of_the_recipe(a_place, pairs, a_recipe, tmp_path, changes):
    train(short(a_recipe, config=changes, length=60), pairs, tmp_path, cards=a_place / "cards")
    names = load_file(tmp_path / FILE).keys()
    towers = {name.split(".")[2] for name in names if name.startswith("net.towers.")}
    assert towers == ({"global", "guided"} if "towers" not in changes else {changes["towers"]})
    assert not (tmp_path / "cards").exists()  # the shipped card doesn't describe this net


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # peft asks for it
def test_adapters_learn_alone_and_are_merged_in_the_end(a_place, pairs, a_recipe, tmp_path):
    recipe = short(a_recipe, stage="vqa", fresh=(), trained=("net.packers.",), lora=Lora(rank=4))
    train(recipe, pairs, tmp_path, cards=a_place / "cards")
    before, after = load_file(a_recipe.start), load_file(tmp_path / FILE)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in changed} == {"packers", "language"}
    linear = {name.rsplit(".", 2)[1] for name in changed if ".language." in name}
    assert linear == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


def test_both_stages_of_alignment_run_and_change_the_student(a_place, pairs, a_recipe, tmp_path):
    one, two = "hsenet_clip_stage1", "hsenet_clip_stage2"
    first = short(a_recipe, stage="stage1", card=one, start=weights_of(a_place, one), fresh=())
    train(first, pairs, tmp_path / "1", cards=a_place / "cards")
    taught = {"teacher": str(tmp_path / "1" / f"{one}.safetensors")}
    second = replace(first, stage="stage2", card=two, start=weights_of(a_place, two), towers=taught)
    train(second, pairs, tmp_path / "2", cards=a_place / "cards")
    before, after = load_file(second.start), load_file(tmp_path / "2" / f"{two}.safetensors")
    assert before.keys() == after.keys()
    assert not torch.equal(before["net.vision_projection.weight"], after["net.vision_projection.weight"])


def test_stage_2_without_a_teacher_says_what_it_needs(a_place, pairs, a_recipe, tmp_path):
    two = "hsenet_clip_stage2"
    recipe = short(a_recipe, stage="stage2", card=two, start=weights_of(a_place, two), fresh=())
    with pytest.raises(InvalidRequest, match="teacher"):
        train(recipe, pairs, tmp_path, cards=a_place / "cards")


def test_names_that_lack_must_be_told_to_be_fresh(a_place, pairs, a_recipe, tmp_path):
    recipe = short(a_recipe, fresh=(), config={"encoder": {**ENCODER, "depth": 3}})
    with pytest.raises(WeightsCorrupt, match="blocks.2"):
        train(recipe, pairs, tmp_path, cards=a_place / "cards")


@pytest.mark.parametrize("seed", range(12))
def test_slices_are_turned_as_their_volume_is(seed):
    volume = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    slices = np.ascontiguousarray(np.rot90(np.rint(255 * volume).astype(np.uint8), -1, axes=(1, 2)))
    looks = Looks(turn=0.8, mirror=0.5, scale=0, shift=0)
    moved, turned, way = look_at(volume, slices, looks, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.rot90(turned, 1, axes=(1, 2)), np.rint(255 * moved).astype(np.uint8))
    assert np.array_equal(moved, volume) == (way in ((0, False, False), (2, True, True)))


def test_an_index_says_which_of_its_lines_is_wrong(tmp_path):
    path = tmp_path / "index.jsonl"
    (tmp_path / "a.nii.gz").touch()
    for line, why in (
        ("{", "line 2 .* no JSON"),
        ('{"id": "b"}', "volume"),
        ('{"id": "a", "volume": "a.nii.gz"}', "came before"),
        ('{"id": "b", "volume": "b.nii.gz"}', "there is no"),
    ):
        path.write_text('{"id": "a", "volume": "a.nii.gz"}\n' + line + "\n")
        with pytest.raises(InvalidRequest, match=f"(?i){why}"):
            read_index(path)
    assert Pair("a", "a.nii.gz", questions=(Question("q", "a"),)).split == "train"


def test_a_folder_without_reports_has_no_index(tmp_path):
    with pytest.raises(InvalidRequest, match=r"NAME\.txt"):
        build(tmp_path, tmp_path / "index.jsonl")


@pytest.mark.parametrize("name", ["stage1", "stage2", "mrg", "vqa"])
def test_a_shipped_recipe_is_valid_and_names_a_shipped_card(name):
    path = CODE / "ct3d" / "training" / "recipes" / f"hsenet_{name}.toml"
    recipe = decode(Recipe, tomllib.loads(path.read_text("utf-8")), str(path))
    assert load_card(recipe.card).role == {"report": "report", "vqa": "answer"}.get(recipe.stage, "retrieve")
    assert recipe.looks.mirror == 0
