"""HSENet's released files become weights and cards of ours, strictly by name."""

import json

import numpy as np
import pytest
import torch
from parity.golden import COMMITTED
from pipeline.hsenet_release import CARDS, FILES, random_states, small_cards, write_release
from safetensors.torch import save_file

from ct3d.cards import find_weights, load_card
from ct3d.errors import InvalidRequest, WeightsCorrupt, WeightsMissing
from ct3d.models.hsenet_published import PEFT
from ct3d.pipeline.hsenet_convert import Found, convert_folder, find_parts, main, whole
from ct3d.pipeline.hsenet_reader import config_of
from ct3d.pipeline.job import build_model

TOLD = {"license_": 'MIT, "as is"', "source": "made up, today"}
CHECK = int  # may be called, and does nothing


@pytest.fixture(scope="module")
def a_release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("release"), random_states())


@pytest.fixture(scope="module")
def some_small_cards(tmp_path_factory):
    return small_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def converted(a_release, some_small_cards, tmp_path_factory):
    """Folder of what all files gave."""
    out = tmp_path_factory.mktemp("out")
    told = convert_folder(a_release, out, cards=some_small_cards, **TOLD)
    assert told["cards"].keys() == set(CARDS)
    assert not told["lacking"]
    return out


@pytest.fixture
def a_view():
    """A volume of the small cards' size, and grey slices of it."""
    chance = np.random.default_rng(0)
    return chance.random((4, 32, 32), np.float32), chance.integers(0, 256, (6, 40, 50), np.uint8)


@pytest.mark.parametrize("id_", CARDS)
def test_a_converted_card_names_its_weights_their_licence_and_where_they_came_from(id_, converted):
    card, shipped = load_card(id_, converted / "cards"), load_card(id_)
    assert find_weights(card, (converted,)) == converted / f"{id_}.safetensors"
    assert card.license == TOLD["license_"]
    assert card.source == (*shipped.source, TOLD["source"])
    assert shipped.obtain and not card.obtain


@pytest.mark.parametrize("id_", CARDS)
def test_without_weights_a_card_tells_how_to_get_and_convert_them(id_):
    with pytest.raises(WeightsMissing, match="Fetch .* then run `ct3d-assistant weights convert FOLDER`"):
        build_model(load_card(id_))


@pytest.mark.parametrize("id_", ["hsenet_ct_rate", "hsenet_radgenome"])
def test_a_converted_reader_writes_about_a_volume_and_about_a_part_of_it(id_, converted, a_view):
    reader = build_model(load_card(id_, converted / "cards"), (converted,))
    volume, slices = a_view
    visual = reader.visual(volume, reader.slice_features(slices, CHECK), CHECK)
    assert visual.shape == (1, 2 * 2 * 2 * 2, 32)
    sight = reader.read(visual, CHECK)
    assert sight.memory_bytes == 2 * 2 * 17 * 16 * 4  # keys and values, layers, tokens, width, bytes
    heard = []
    options = {"on_piece": heard.append, "max_tokens": 5}
    text = reader.write(sight, "what is there ?", **options)
    assert "".join(heard) == text
    assert reader.write(sight, "what is there ?", **options) == text
    part = reader.read(visual, CHECK, np.arange(32)[None, None] * np.ones((4, 32, 1)) < 8)
    assert (part.prefix.seen.sum(), sight.prefix.seen.sum()) == (1 + 8, 1 + 16)
    assert reader.write(part, "what is there ?", **options) != text != ""


def test_a_person_who_stops_ends_every_stage(converted, a_view):
    reader = build_model(load_card("hsenet_ct_rate", converted / "cards"), (converted,))

    def stop(*_):
        raise InterruptedError

    volume, slices = a_view
    features = reader.slice_features(slices, CHECK)
    visual = reader.visual(volume, features, CHECK)
    sight = reader.read(visual, CHECK)
    stages = [
        lambda: reader.slice_features(slices, stop),
        lambda: reader.visual(volume, features, stop),
        lambda: reader.read(visual, stop),
        lambda: reader.write(sight, "nodule ?", on_piece=stop, max_tokens=3),
    ]
    for stage in stages:
        with pytest.raises(InterruptedError):
            stage()
    assert sight.prefix.cache.get_seq_length() == sight.prefix.length


def test_a_stop_between_two_layers_leaves_what_was_read_as_it_was(converted, a_view):
    reader = build_model(load_card("hsenet_radgenome", converted / "cards"), (converted,))
    volume, slices = a_view
    sight = reader.read(reader.visual(volume, reader.slice_features(slices, CHECK), CHECK), CHECK)
    text = reader.write(sight, "nodule ?", on_piece=str, max_tokens=4)
    for calls in range(1, 8):
        left = [None] * calls

        def stop(_piece, left=left):
            if not left:
                raise InterruptedError
            left.pop()

        with pytest.raises(InterruptedError):
            reader.write(sight, "nodule ?", on_piece=stop, max_tokens=4)
        assert {each.get_seq_length() for each in sight.prefix.cache.layers} == {sight.prefix.length}
    assert reader.write(sight, "nodule ?", on_piece=str, max_tokens=4) == text


@pytest.mark.parametrize("id_", ["hsenet_clip_stage1", "hsenet_clip_stage2"])
def test_a_converted_aligner_puts_volumes_and_texts_on_one_sphere(id_, converted, a_view):
    aligner = build_model(load_card(id_, converted / "cards"), (converted,))
    volume, slices = a_view
    features = aligner.slice_features(slices, CHECK) if aligner.is_guided else None
    vectors = (
        aligner.embed_volume(volume, features, CHECK),
        aligner.embed_text("no 'nodule' in the (left) lobe"),
    )
    assert [each.shape for each in vectors] == [(24,), (24,)]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[1], aligner.embed_text("no nodule in the left lobe"))
    assert aligner.embed_text("nodule " * 200).shape == (24,)


def altered(state, name, how):
    if how == "missing":
        return {each: value for each, value in state.items() if each != name}
    if how == "unexpected":
        return {**state, name + "x": torch.zeros(1)}
    return {**state, name: torch.zeros(3, 5)}


ALTERED = {
    "stage 1": "language_encoder.encoder.layer.0.output.dense.bias",
    "stage 2": "stage1_pretrained_CLIP.vision_encoder.blocks.1.attn.qkv.weight",
    "reports": f"{PEFT}model.layers.1.self_attn.qkv_proj.lora_A.default.weight",
    "answers": f"{PEFT}model.mm_projector2.resolution_attention.output_linear.bias",
    "slices": "visual.trunk.blocks.0.norm1.weight",
    "language": "model.layers.0.mlp.gate_up_proj.weight",
}


@pytest.mark.parametrize("part", ALTERED)
@pytest.mark.parametrize("how", ["missing", "unexpected", "shape"])
def test_one_key_too_few_or_too_many_or_of_another_shape_is_refused_by_its_name(
    part, how, some_small_cards, tmp_path
):
    states, name = random_states(), ALTERED[part]
    states[part] = altered(states[part], name, how)
    folder = write_release(tmp_path / "release", states)
    short = name.removeprefix("visual.trunk.").replace(".", r"\.")
    told = {
        "missing": f"missing {short}",
        "unexpected": f"unexpected {short}x",
        "shape": f"{short} has the shape",
    }
    with pytest.raises(WeightsCorrupt, match=told[how]):
        convert_folder(folder, tmp_path / "out", cards=some_small_cards, **TOLD)


def test_what_is_incomplete_is_told_and_the_rest_converted(some_small_cards, tmp_path):
    states = random_states()
    folder = write_release(tmp_path / "release", {"stage 1": states["stage 1"], "slices": states["slices"]})
    told = convert_folder(folder, tmp_path / "out", cards=some_small_cards, **TOLD)
    assert told["cards"].keys() == {"hsenet_clip_stage1"}
    assert any("Phi-4" in each for each in told["lacking"]["hsenet_ct_rate"])


def test_a_folder_with_nothing_of_it_is_refused_with_what_is_wanted(tmp_path):
    with pytest.raises(InvalidRequest, match="stage-1 CLIP"):
        convert_folder(tmp_path, tmp_path / "out", **TOLD)
    with pytest.raises(InvalidRequest, match="no folder"):
        find_parts(tmp_path / "nowhere")


def test_two_files_of_one_part_are_refused_but_a_bin_beside_its_safetensors_is_not(tmp_path):
    stage1 = random_states()["stage 1"]
    folder = write_release(tmp_path, {"stage 1": stage1})
    torch.save({name: value + 1 for name, value in stage1.items()}, folder / "HSENet_CLIP/model_params.bin")
    assert torch.equal(find_parts(folder)["stage 1"].state["logit_scale"], stage1["logit_scale"])
    (folder / "copy").mkdir()
    save_file(stage1, folder / "copy" / "model.safetensors")
    with pytest.raises(InvalidRequest, match="both are the stage-1 CLIP"):
        find_parts(folder)


def test_a_language_model_without_its_configuration_or_tokenizer_is_refused(some_small_cards, tmp_path):
    folder = write_release(tmp_path / "release", random_states())
    beside = (folder / FILES["language"]).parent
    for name in ("tokenizer.json", "config.json"):
        (beside / name).rename(beside / f"no {name}")
        with pytest.raises(InvalidRequest, match=f"{name} of the language model"):
            convert_folder(folder, tmp_path / "out", cards=some_small_cards, **TOLD)
    (beside / "config.json").write_text("[]")
    with pytest.raises(WeightsCorrupt, match="no configuration"):
        convert_folder(folder, tmp_path / "out", cards=some_small_cards, **TOLD)


def test_a_card_s_config_with_a_table_that_no_model_has_is_refused():
    with pytest.raises(InvalidRequest, match="has no decoder"):
        config_of({"decoder": {}})


def test_reports_and_answers_are_told_apart_by_their_folder(tmp_path):
    torch.save(random_states()["reports"], tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidRequest, match="trained_vlm_for_rad_geome"):
        find_parts(tmp_path)


def test_a_bin_that_would_run_code_or_is_cut_off_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, ("raise SystemExit('ran')",)

    torch.save({"vision_encoder.cls_token": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsCorrupt, match="can't be read"):
        find_parts(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(WeightsCorrupt, match="can't be read"):
        find_parts(tmp_path)


def test_the_program_prints_one_object_and_gives_the_error_s_code(tmp_path, capsys):
    options = [str(tmp_path), "--license=MIT", "--source=here", f"--out={tmp_path / 'out'}"]
    assert main(options) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == InvalidRequest.code


PHI_4_MINI = {"model_type": "phi3", "vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 8192}
PHI_4_MINI |= {"num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8}
PHI_4_MINI |= {"bos_token_id": 199999, "eos_token_id": 199999, "pad_token_id": 199999}
PHI_4_MINI |= {"partial_rotary_factor": 0.75, "tie_word_embeddings": True, "max_position_embeddings": 4096}


@pytest.fixture(scope="module")
def the_full_release(tmp_path_factory):
    """Part → its file as the manifest of the real ones lists it, tensors without numbers."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "config.json").write_text(json.dumps(PHI_4_MINI))
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).write_text("{}")
    manifest = json.loads((COMMITTED / "hsenet" / "full_manifest.json").read_text())
    files = {"stage 1": "stage1_clip", "stage 2": "stage2_clip", "slices": "biomedclip_visual_trunk"}
    files |= {part: "vlm_checkpoint_projector_and_lora" for part in ("reports", "answers")}
    files["language"] = "vlm_full_before_lora"
    found = {}
    for part, name in files.items():
        shapes = {key: shape for key, (shape, _) in manifest[name].items()}
        if part == "language":
            vision = ("model.vision_tower.", "model.mm_projector")
            shapes = {key: shape for key, shape in shapes.items() if not key.startswith(vision)}
        state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        found[part] = Found(folder / FILES[part].rpartition("/")[2], state)
    return found


@pytest.mark.parametrize("id_", CARDS)
def test_the_full_files_of_the_manifest_fit_the_shipped_card(id_, the_full_release):
    tensors, _ = whole(load_card(id_), the_full_release)
    count = sum(value.numel() for name, value in tensors.items() if name.startswith("net."))
    own = {"hsenet_clip_stage1": 198.05, "hsenet_clip_stage2": 200.42}.get(
        id_, 4656.09 - 614.60
    )  # no output matrix
    assert count / 1e6 == pytest.approx(own, abs=0.01)


@pytest.mark.parametrize("how", ["missing", "unexpected", "shape"])
def test_one_wrong_key_of_a_full_file_is_refused_by_its_name(how, the_full_release):
    name = f"{PEFT}model.layers.31.mlp.down_proj.lora_B.default.weight"
    state = altered(the_full_release["reports"].state, name, how)
    found = {**the_full_release, "reports": Found(the_full_release["reports"].path, state)}
    with pytest.raises(WeightsCorrupt, match=name.replace(".", r"\.")):
        whole(load_card("hsenet_ct_rate"), found)
