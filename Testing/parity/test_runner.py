"""The runner itself: unseen sets of the same layout run as they are, and nothing in them goes unnoticed."""

import json
import shutil

import numpy as np
import pytest
import torch
from parity import h3denet_losses, h3denet_nets, hsenet_data, hsenet_nets  # noqa: F401  (they register)
from parity.golden import COMMITTED, Case, Comparison, cases_in, kind_of
from safetensors.torch import load_file, save_file

from ct3d.models.h3denet import HeatmapNet, convert

SEEN = COMMITTED / "h3denet"


@pytest.fixture
def an_unseen_set(tmp_path):
    """Function: file of the committed set → its copy under another name; returns the set's folder."""

    def add(source: str, target: str):
        place = tmp_path / "h3denet" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SEEN / source, place)
        return tmp_path

    return add


def check(case: Case) -> Comparison:
    compare = Comparison()
    fitting = kind_of(case)
    for part in fitting.parts(case):
        fitting.check(case, part, compare)
    return compare


def test_cases_of_other_names_in_other_folders_are_found_and_checked(an_unseen_set):
    for suffix in ("json", "npz", "safetensors"):
        an_unseen_set(f"block/opt_conv_mixer.{suffix}", f"block/opt_something_else.{suffix}")
    an_unseen_set("bra/top1.json", "bra_other/config.json")
    an_unseen_set("bra/top1.npz", "bra_other/io.npz")
    root = an_unseen_set("bra/top1.safetensors", "bra_other/weights.safetensors")
    cases = cases_in(root, "unseen")
    assert [case.id for case in cases] == [
        "unseen:h3denet/block/opt_something_else",
        "unseen:h3denet/bra_other",
    ]
    assert [kind_of(case).name for case in cases] == ["block", "routing attention"]
    assert all(check(case).deviations for case in cases)


def test_settings_are_shared_by_the_array_files_of_a_folder(an_unseen_set):
    for name in ("decode.json", "heatmap_decode.npz", "proposal_decode.npz"):
        root = an_unseen_set(f"decode/{name}", f"decode_2/{name}")
    cases = cases_in(root, "unseen")
    assert [case.settings_file.name for case in cases] == ["decode.json"] * 2
    assert all(check(case).deviations for case in cases)


def test_what_is_of_no_known_kind_is_a_case_without_one(an_unseen_set):
    an_unseen_set("bra/top1.json", "bra/without_arrays.json")
    root = an_unseen_set("bra/top1.safetensors", "bra/without_anything.safetensors")
    np.savez(root / "h3denet" / "strange.npz", numbers=np.zeros(3))
    cases = cases_in(root, "unseen")
    assert len(cases) == 3
    assert [kind_of(case) for case in cases if "strange" in case.id or case.stray_file] == [None, None]
    with pytest.raises(RuntimeError, match="Missing key"):
        check(next(case for case in cases if "without_arrays" in case.id))


def test_an_unknown_argument_of_the_reference_fails_its_case_and_is_named(an_unseen_set):
    for suffix in ("json", "npz", "safetensors"):
        root = an_unseen_set(f"bra/top1.{suffix}", f"bra/new_option.{suffix}")
    settings = json.loads((SEEN / "bra" / "top1.json").read_text())
    settings["kwargs"]["teleport"] = True
    (root / "h3denet" / "bra" / "new_option.json").write_text(json.dumps(settings))
    (case,) = cases_in(root, "unseen")
    with pytest.raises(AssertionError, match="teleport"):
        check(case)


@pytest.mark.parametrize("array", ["out", "grad_x", "r_idx", "r_weight", "attn_weight"])
def test_a_wrong_number_in_any_array_fails_its_case(array, an_unseen_set):
    for suffix in ("json", "npz", "safetensors"):
        root = an_unseen_set(f"bra/top1.{suffix}", f"bra/top1.{suffix}")
    place = root / "h3denet" / "bra" / "top1.npz"
    arrays = dict(np.load(place))
    arrays[array].flat[3] += 1
    np.savez(place, **arrays)
    (case,) = cases_in(root, "unseen")
    with pytest.raises(AssertionError, match=array):
        check(case)


def test_a_comparison_refuses_other_shapes_and_what_is_not_a_number():
    compare = Comparison()
    with pytest.raises(AssertionError, match="shape"):
        compare("map", np.zeros((2, 1)), np.zeros(2), atol=1.0)
    with pytest.raises(AssertionError, match="off by nan"):
        compare("map", np.array([np.nan]), np.zeros(1), atol=1.0)


def test_a_net_takes_every_option_of_its_blocks_and_their_weights_find_their_place():
    config = h3denet_nets.net_config(
        {
            "n_class": 2,
            "embed_dim": [16, 16, 24, 32],
            "qk_dims": [8, 16, 16, 32],
            "depth": [1, 1, 1, 2],
            "n_win": 2,
            "topks": [1, 2, 4, -2],
            "mlp_ratios": [1, 1, 2, 2],
            "layer_scale_init_value": 0.1,
            "pre_norm": False,
            "mlp_dwconv": True,
            "param_routing": True,
            "diff_routing": True,
            "soft_routing": True,
            "param_attention": "qkv",
            "side_dwconv": 3,
            "before_attn_dwconv": 5,
            "kv_downsample_mode": "ada_avgpool",
            "kv_per_wins": [2, 2, 1, 1],
            "kv_downsample_ratios": [4, 2, 1, 1],
            "kv_downsample_kernels": [4, 2, 1, 1],
            "drop_path_rate": 0.2,
            "auto_pad": True,
            "qk_scale": None,
        },
    )
    net = HeatmapNet(config)
    ours = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    theirs = {
        "downsample_layers.0.0.weight": (8, 1, 3, 3, 3),
        "stages.0.0.attn.router.emb.weight": (8, 8),
        "stages.0.0.attn.qkv.qkv.weight": (32, 16),
        "stages.0.0.attn.lepe.weight": (16, 1, 3, 3, 3),
        "stages.0.0.pos_embed.weight": (16, 1, 5, 5, 5),
        "stages.2.0.mlp.1.dwconv.weight": (48, 1, 3, 3, 3),
        "stages.3.1.gamma2": (32,),
        "stages.3.1.attn.qkv.weight": (96, 32),
        "stages.3.1.attn.proj.bias": (32,),
        "stages.3.1.attn.lepe.bias": (32,),
        "norm2.weight": (24,),
        "up4.conv2.0.weight": (16, 16, 3, 3, 3),
        "final_conv.weight": (2, 16, 1, 1, 1),
    }
    with torch.device("meta"):
        converted = convert({name: torch.empty(shape) for name, shape in theirs.items()})
    assert {name: ours.get(name) for name in converted} == dict(zip(converted, theirs.values()))
    assert net(torch.zeros(1, 1, 20, 16, 24)).shape == (1, 2, 20, 16, 24)


@pytest.fixture
def an_unseen_tensor_case(tmp_path):
    """The committed native case of the slice encoder, in a folder and with a file name of its own."""
    place = tmp_path / "hsenet" / "other_name"
    place.mkdir(parents=True)
    shutil.copyfile(COMMITTED / "hsenet" / "slice_encoder" / "config.json", place / "config.json")
    shutil.copyfile(
        COMMITTED / "hsenet" / "slice_encoder" / "native_io.safetensors", place / "io.safetensors"
    )
    return place


def test_a_case_of_safetensors_is_told_by_its_arrays(an_unseen_tensor_case, tmp_path):
    (case,) = cases_in(tmp_path, "unseen")
    assert case.id == "unseen:hsenet/other_name"
    assert kind_of(case).name == "slice encoder, native size"
    assert not case.unread


def test_files_beside_safetensors_that_nothing_asks_for_are_named(an_unseen_tensor_case, tmp_path):
    save_file({"numbers": torch.zeros(2)}, an_unseen_tensor_case / "more.safetensors")
    (case,) = cases_in(tmp_path, "unseen")
    assert case.unread == ["more.safetensors"]
    assert case.other_weights("more.safetensors").keys() == {"numbers"}
    assert not case.unread


def test_an_output_that_no_check_compares_fails_its_case(an_unseen_tensor_case, tmp_path):
    arrays = load_file(an_unseen_tensor_case / "io.safetensors")
    save_file({**arrays, "out.more": torch.zeros(2)}, an_unseen_tensor_case / "io.safetensors")
    (case,) = cases_in(tmp_path, "unseen")
    with pytest.raises(AssertionError, match="never compared.*more"):
        check(case)


def test_a_case_of_safetensors_of_no_known_kind_is_one_without(an_unseen_tensor_case, tmp_path):
    save_file({"out.strange": torch.zeros(2)}, an_unseen_tensor_case / "io.safetensors")
    (case,) = cases_in(tmp_path, "unseen")
    assert kind_of(case) is None
