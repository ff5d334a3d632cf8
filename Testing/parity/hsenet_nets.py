"""HSENet's encoders, packers, contrastive and multimodal models against the reference's vectors."""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from parity.golden import Case, Comparison, kind
from torch import Tensor, nn
from transformers import Phi3Config, Phi3ForCausalLM

from ct3d.cards import load_card
from ct3d.models import hsenet_clip, hsenet_published, hsenet_vlm, slice_encoder
from ct3d.models.hsenet import (
    ENCODER_NAMES,
    PACKER_NAMES,
    Encoder,
    EncoderConfig,
    GuidedEncoder,
    PackerConfig,
    SpatialPacker,
    build_packer,
    convert_encoder,
    convert_packer,
    under,
    windowed,
)
from ct3d.models.layers import Renames, original
from ct3d.pipeline import hsenet_convert, hsenet_reader

NUMBERS, LOSSES = 2e-5, 1e-4  # of the largest value
PACKERS = {  # the reference's class → kind; where the class has two, "linear" is the one without a GELU
    "VisualPacker_3d_phi_v3": "spatial",
    "VisualPacker_3d_phi_v3_control_kernel": "spatial",
    "SpatialPoolingProjector_m3d": "pool_mlp",
    "SpatialPoolingProjector2": "pool_mlp",
    "SpatialPoolingProjector": "pool_mlp",
}


class Outputs:
    """Compares what is computed with the `out.` arrays of a case, and sees that each is compared once."""

    def __init__(self, case: Case, compare: Comparison):
        self.case, self.compare = case, compare
        self.left = {name.removeprefix("out.") for name in case.arrays if name.startswith("out.")}

    def __call__(self, name: str, got, *, rtol: float = NUMBERS, where: Tensor | None = None) -> None:
        """Where the case has such an array."""
        if name not in self.left:
            return
        self.left.remove(name)
        want = torch.tensor(self.case.arrays[f"out.{name}"])
        if where is not None:
            got, want = got[where], want[where]
        self.compare(name, got, want, rtol=rtol)

    def done(self) -> None:
        """Nothing is left."""
        assert not self.left, f"never compared: {sorted(self.left)}"


def given(case: Case, *names: str) -> list[Tensor]:
    """The `in.` arrays of these names."""
    return [torch.tensor(case.arrays[f"in.{name}"]) for name in names]


def encoder_config(settings: Mapping) -> EncoderConfig:
    """From the arguments of the reference's ViT."""
    return EncoderConfig(
        image_size=tuple(settings["img_size"]),
        patch_size=tuple(settings["patch_size"]),
        channels=settings.get("in_channels", 1),
        dim=settings.get("hidden_size") or settings["hidden"],
        depth=settings.get("num_layers") or settings["layers"],
        heads=settings.get("num_heads") or settings["heads"],
        mlp_dim=settings.get("mlp_dim") or settings["mlp"],
    )


def loaded(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """With these weights, strictly, in evaluation."""
    net.load_state_dict(state)
    return net.eval()


@kind("3D encoder", fits=lambda case: case.holds("in.image", "out.last"))
@torch.no_grad()
def check_encoder(case: Case, _part: str, compare: Comparison) -> None:
    """Embedded patches, every block, the last norm; of a guided one its attention and scores too."""
    out, (image,) = Outputs(case, compare), given(case, "image")
    is_guided = case.holds("in.slice_features")
    kind_of_net = GuidedEncoder if is_guided else Encoder
    net = loaded(kind_of_net(encoder_config(case.settings["vit"])), convert_encoder(case.weights))
    slices = given(case, "slice_features")[0] if is_guided else None
    if is_guided:
        read, weights = net.guide(net.patches(image), slices)
        out("cross_attention", read)
        out("attention_map", weights)
        out("patch_score", net.scores(net.patches(image), slices))
    else:
        out("patch_embedding", net.patches(image))
    for n, hidden in enumerate(net.hidden(net.embed(image, slices), all_of_them=True)):
        out(f"hidden.{n}", hidden)
    out("last", net(image, slices))
    out.done()


@kind("packer", fits=lambda case: case.holds("in.tokens", "out.tokens"))
@torch.no_grad()
def check_packer(case: Case, _part: str, compare: Comparison) -> None:
    """Tokens, and of a spatial packer what lies on the way to them."""
    settings, (tokens,), out = case.settings, given(case, "tokens"), Outputs(case, compare)
    grid = tuple(side // size for side, size in zip(settings["image_size"], settings["patch_size"]))
    packer = loaded(build_packer(packer_config(settings, tokens, grid)), convert_packer(case.weights))
    if isinstance(packer, SpatialPacker):
        windows = windowed(tokens, grid, packer.config.window)
        packed, weights = packer.packed(windows)
        counts = [side // size for side, size in zip(grid, packer.config.window)]
        out("centroids", windows.mean(dim=2).unflatten(1, counts))
        out("attention", weights)
        out("packed", packed)
    out("tokens", packer(tokens, grid))
    compare.same("number of tokens", packer(tokens, grid).shape[1], settings["actual_tokens"])
    out.done()


def packer_config(settings: Mapping, tokens: Tensor, grid: tuple[int, int, int]) -> PackerConfig:
    """From the reference's class and arguments; a sequence is pooled by whatever gives the tokens it gave."""
    kind_of_packer = PACKERS[settings["class"]]
    window = tuple(settings["kernel"]) or (settings.get("pooling_size", 0),) * 3
    if settings.get("pooling_type") == "sequence":
        kind_of_packer, window = "sequence", (1, 1, tokens.shape[1] // settings["actual_tokens"])
    elif kind_of_packer != "spatial" and settings["layer_type"] == "linear":
        kind_of_packer = "pool_linear"
    layers = settings["layer_num"] if kind_of_packer != "spatial" else 2
    return PackerConfig(kind_of_packer, window, settings["in_dim"], settings["out_dim"], layers)


def clip_config(case: Case, *, is_guided: bool) -> hsenet_clip.ClipConfig:
    """From the settings of a contrastive case."""
    taken = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    taken += ("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "pad_token_id")
    text = {name: case.settings["bert"][name] for name in taken}
    return hsenet_clip.ClipConfig(encoder_config(case.settings["clip"]), is_guided, text)


@kind("contrastive stage 1", fits=lambda case: case.holds("out.loss", "out.logits_per_image"))
def check_stage1(case: Case, _part: str, compare: Comparison) -> None:
    """Features, logits, loss and its gradients."""
    out, (images, ids, mask) = Outputs(case, compare), given(case, "images", "input_ids", "attention_mask")
    model = hsenet_clip.Contrastive(clip_config(case, is_guided=False))
    loaded(model, hsenet_clip.convert(case.weights))
    vision, text = model.image_features(images), model.text_features(ids, mask)
    logits = hsenet_clip.logits_of(vision[:, 0], text[:, 0], model.logit_scale)
    loss = hsenet_clip.contrastive_loss(logits)
    out("text_hidden", model.text(input_ids=ids, attention_mask=mask).last_hidden_state)
    out("image_features", vision)
    out("text_features", text)
    out("logits_per_image", logits.per_image)
    out("logits_per_text", logits.per_text)
    out("logits", (logits.per_image + logits.per_text) / 2)
    out("loss", loss, rtol=LOSSES)
    compare_gradients(out, model, loss)
    out.done()


@kind("contrastive stage 2", fits=lambda case: case.holds("out.teacher.loss", "out.relation_loss"))
def check_stage2(case: Case, _part: str, compare: Comparison) -> None:
    """The student's and the teacher's features and logits, the loss at every step, gradients at one."""
    out = Outputs(case, compare)
    images, slices, ids, mask = given(case, "images", "images_2d", "input_ids", "attention_mask")
    student = hsenet_clip.Contrastive(clip_config(case, is_guided=True))
    teacher = hsenet_clip.Contrastive(clip_config(case, is_guided=False))
    loaded(student, hsenet_clip.convert(case.weights))
    loaded(teacher, hsenet_clip.convert(under(case.weights, hsenet_clip.TEACHER)))
    model = hsenet_clip.Stage2(student, teacher).eval()
    own, taught = model.both_logits(images, slices, ids, mask)
    out("image_features", student.image_features(images, slices))
    out("text_features", student.text_features(ids, mask))
    for who, logits in (("student", own), ("teacher", taught)):
        out(f"{who}.logits_per_image", logits.per_image)
        out(f"{who}.logits_per_text", logits.per_text)
    out("logits", (own.per_image + own.per_text) / 2)
    out("student.contrastive_loss", hsenet_clip.contrastive_loss(own), rtol=LOSSES)
    out("teacher.loss", hsenet_clip.contrastive_loss(taught), rtol=LOSSES)
    out("relation_loss", hsenet_clip.relation_loss(own, taught), rtol=LOSSES)
    for step, weight in case.settings["relation_weight"].items():
        number = None if step == "None" else int(step)
        compare(f"weight at {step}", hsenet_clip.relation_weight(number), weight, atol=1e-9)
    for step in case.settings["steps"]:
        out(f"loss.step_{step}", model(images, slices, ids, mask, step=step), rtol=LOSSES)
    loss = model(images, slices, ids, mask, step=case.settings["grad_step"])
    compare_gradients(out, student, loss)
    out.done()


def compare_gradients(out: Outputs, model: nn.Module, loss: Tensor) -> None:
    """Of those parameters that the case names."""
    model.zero_grad()
    loss.backward()
    names = [name.removeprefix("grad.") for name in out.left if name.startswith("grad.")]
    ours = dict(model.named_parameters())
    for name in names:
        (found,) = hsenet_clip.convert({name: torch.empty(0)})
        out(f"grad.{name}", ours[found].grad, rtol=LOSSES)


@kind("slice encoder", fits=lambda case: case.holds("in.tiny_images", "out.tiny_features"))
@torch.no_grad()
def check_slice_encoder(case: Case, _part: str, compare: Comparison) -> None:
    """The transform of a slice, and a small trunk's features."""
    out, tiny = Outputs(case, compare), case.settings["tiny"]
    config = slice_encoder.Config(
        tiny["img_size"], tiny["patch_size"], tiny["embed_dim"], tiny["depth"], tiny["num_heads"],
        case.weights["blocks.0.mlp.fc1.weight"].shape[0],
    )  # fmt: skip
    net = loaded(slice_encoder.SliceEncoder(config), slice_encoder.convert(case.weights))
    out("tiny_features", net(given(case, "tiny_images")[0]))
    seen = slice_encoder.normalised(given(case, "slice_uint8")[0][None])[0]
    out("preprocessed_sub", seen[:, ::4, ::4])
    out("preprocessed_mean", seen.mean(dim=(1, 2)))
    out.done()


@kind("slice encoder, native size", fits=lambda case: case.holds("in.images_sub", "out.features"))
@torch.no_grad()
def check_native_slice_encoder(case: Case, _part: str, compare: Comparison) -> None:
    """ViT-B/16 with weights and images made from the seed."""
    out, seed = Outputs(case, compare), case.settings["native"]["seed"]
    images = numbers(seed + 124, (2, 3, 224, 224))
    compare.same("images", images[:, :, ::32, ::32], case.arrays["in.images_sub"])
    net = made_up(slice_encoder.SliceEncoder(), slice_encoder.NAMES, seed + 123)
    out("features", net(images))
    out.done()


@kind("native size", fits=lambda case: case.holds("in.token_index", "out.vit_global"))
@torch.no_grad()
def check_native_size(case: Case, _part: str, compare: Comparison) -> None:
    """Both encoders and a packer at full size, with weights, volume and slices made from the seed."""
    out, settings, seed = Outputs(case, compare), case.settings, case.settings["seed"]
    config = encoder_config(settings["vit"])
    image = smooth_volume(seed, config.image_size)
    slices = numbers(seed + 1, (1, 32, config.dim))
    compare.same("slices", slices[0, 0], case.arrays["in.slice_features_row0"])
    compare.same("image", subsampled(image[0, 0], case.arrays["in.image_sub"]), case.arrays["in.image_sub"])
    (index,) = given(case, "token_index")
    packing = settings["packer"]
    spec = PackerConfig("spatial", tuple(packing["kernel"]), packing["in_dim"], packing["out_dim"])
    packer = made_up(build_packer(spec), PACKER_NAMES, seed + 5)
    for name, net, offset in (("global", Encoder, 3), ("2e3", GuidedEncoder, 4)):
        net = made_up(net(config), ENCODER_NAMES, seed + offset)
        tokens = net(image, slices)
        out(f"vit_{name}", tokens[0, index])
        out(f"packer_of_{name}", packer(tokens[:, 1:], config.grid))
        if name == "2e3":
            out("patch_score", net.scores(net.patches(image), slices))
    out.done()


TOWERS = {"dual_vits": "dual", "3d_vit": "global", "2e3_vit": "guided"}
WINDOW = (1, 4, 4)  # of every multimodal case
NO_IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}  # Phi-4's own are beyond a tiny vocabulary


def vlm_config(settings: Mapping, out_dim: int) -> hsenet_vlm.Config:
    """From the settings of a multimodal case."""
    vision = settings["vision"]
    encoder = encoder_config(vision)
    packer = PackerConfig("spatial", WINDOW, encoder.dim, out_dim)
    return hsenet_vlm.Config(encoder, packer, TOWERS[vision["tower"]], not vision["parallel_projector"])


def phi3(settings: Mapping) -> nn.Module:
    """A tiny Phi-3 of these settings (the reference's argument names), with random weights."""
    return Phi3ForCausalLM(Phi3Config(**settings, **NO_IDS))


def tied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the output matrix, which is the embedding matrix where it isn't stored."""
    embedding = state["language.model.embed_tokens.weight"]
    return {"language.lm_head.weight": embedding, **state}


@kind("multimodal", fits=lambda case: case.holds("out.image_tokens", "out.inputs_embeds"))
@torch.no_grad()
def check_multimodal(case: Case, _part: str, compare: Comparison) -> None:
    """Encoders, packers, splice, logits, loss and greedy text, the text by way of the kept prefix."""
    out, settings = Outputs(case, compare), case.settings
    images, slices, ids, mask = given(case, "images", "images_2d", "input_ids", "attention_mask")
    config = vlm_config(settings, settings["llm"]["hidden_size"])
    model = hsenet_vlm.HSENet(config, phi3(settings["llm"]))
    loaded(model, tied(hsenet_vlm.convert(case.weights, config)))
    for n, tokens in enumerate(model.tokens_of(images, slices)):
        out(f"tower.{n}", tokens)
    visual = model.visual_tokens(images, slices)
    compare.same("visual tokens", config.visual_tokens, settings["n_image_tokens"])
    out("image_tokens", visual)
    out("inputs_embeds", model.spliced(ids, visual))
    logits = model(images, slices, ids, mask)
    out("logits", logits, where=mask.bool())
    out("loss", hsenet_vlm.language_loss(logits, given(case, "labels")[0]), rtol=LOSSES)
    (prompts,) = given(case, "prompt_ids")
    out("generated", torch.tensor([written(model, *each, settings) for each in zip(visual, prompts)]))
    out.done()


def written(model: hsenet_vlm.HSENet, visual: Tensor, prompt: Tensor, settings: Mapping) -> list[int]:
    """Greedy ids after a prompt."""
    prefix = model.prefix(visual[None], int(prompt[0]))
    question = prompt[1 + len(visual) :].tolist()
    most = settings["max_new_tokens"]
    return list(model.write(prefix, question, hsenet_vlm.greedy, stop=None, most=most))


@kind("published files", fits=lambda case: bool(case.settings.get("key_map_stage1")))
@torch.no_grad()
def check_published(case: Case, _part: str, compare: Comparison) -> None:
    """The released files' layout, by the converter that the real files go through."""
    out, settings = Outputs(case, compare), case.settings
    clip, adapted, base = (
        case.other_weights(f"{name}.safetensors")
        for name in ("stage2_clip", "mm_projector_and_lora", "llm_base")
    )
    values, language = published_config(settings, clip), phi3_fields(case)
    model = hsenet_reader.built_reader(values, hsenet_reader.language_of(language))
    files = {"clip": clip, "adapted": adapted, "base": base}
    parts = {name: hsenet_convert.Found(Path(name), state) for name, state in files.items()}
    state = hsenet_convert.reader_state(values, language, **parts)
    model.pop("trunk")
    hsenet_reader.load(model, state, load_card("hsenet_ct_rate"))
    model = model["net"].eval()
    images, slices, ids = given(case, "images", "images_2d", "input_ids")
    logits = model(images, slices, ids)
    out("image_tokens", model.visual_tokens(images, slices))
    out("logits", logits)
    out("loss", hsenet_vlm.language_loss(logits, ids)[None], rtol=LOSSES)
    compare.same("visual tokens", model.config.visual_tokens, settings["n_image_tokens"])
    out.done()


def published_config(settings: Mapping, clip: Mapping[str, Tensor]) -> dict:
    """A card's [config] of these settings; the text encoder's sizes are told by the file alone."""
    config, lora = vlm_config(settings, settings["llm"]["hidden"]), settings["lora"]
    targets = sorted({each.rpartition(".")[2] for each in lora["target_modules"]})
    text = {name: value.shape for name, value in under(clip, "language_encoder.").items()}
    words, width = text["embeddings.word_embeddings.weight"]
    return {
        "encoder": vars(config.encoder),
        "packer": vars(config.packer),
        "towers": config.towers,
        "is_packer_shared": config.is_packer_shared,
        "lora": {"rank": lora["r"], "alpha": lora["alpha"], "targets": targets},
        "text": {
            "vocab_size": words,
            "hidden_size": width,
            "num_attention_heads": 1,  # no shape depends on it
            "num_hidden_layers": sum(name.endswith("intermediate.dense.bias") for name in text),
            "intermediate_size": text["encoder.layer.0.intermediate.dense.bias"][0],
            "max_position_embeddings": text["embeddings.position_embeddings.weight"][0],
            "type_vocab_size": text["embeddings.token_type_embeddings.weight"][0],
        },
    }


def phi3_fields(case: Case) -> dict:
    """The language model's config: sizes of the case, the rest as the multimodal case beside it says."""
    llm = case.settings["llm"]
    beside = case.settings_file.parent.parent / "vlm_dual_parallel" / "config.json"
    rest = json.loads(beside.read_text(encoding="utf-8"))["llm"] if beside.is_file() else {}
    sizes = {
        "hidden_size": llm["hidden"],
        "num_hidden_layers": llm["layers"],
        "num_attention_heads": llm["heads"],
        "num_key_value_heads": llm["kv"],
        "intermediate_size": llm["inter"],
        "vocab_size": llm["vocab"],
        "tie_word_embeddings": llm["tie"],
        "partial_rotary_factor": llm["partial"],
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 256,
    }
    return {"model_type": "phi3", **NO_IDS, **rest, **sizes}


@kind("HSENet's manifest", fits=lambda case: "vlm_checkpoint_projector_and_lora" in case.settings)
def check_manifest(case: Case, _part: str, compare: Comparison) -> None:
    """Keys and shapes of the full-size files are those that the converter asks for; without numbers."""
    with torch.device("meta"):
        plain = hsenet_clip.Contrastive(hsenet_clip.ClipConfig())
        guided = hsenet_clip.Contrastive(hsenet_clip.ClipConfig(is_guided=True))
        trunk = slice_encoder.SliceEncoder()
    whole = manifested(case, "vlm_full_before_lora")
    wanted = {
        "stage1_clip": hsenet_published.clip_keys(plain),
        "stage2_clip": hsenet_published.clip_keys(guided, plain),
        "vlm_checkpoint_projector_and_lora": hsenet_published.adapted_keys(
            hsenet_vlm.Config(), whole, hsenet_published.Lora()
        ),
        "biomedclip_visual_trunk": hsenet_published.trunk_keys(trunk),
    }
    for name, shapes in wanted.items():
        given = manifested(case, name)
        off = {key for key in given.keys() | shapes.keys() if given.get(key) != shapes.get(key)}
        assert not off, f"{name}: {sorted(off)[:5]}"
        compare.same(f"{name}, keys", len(shapes), case.settings["counts"][name]["keys"])
    numbers_in = sum(map(math.prod, whole.values()))
    compare.same("parameters", numbers_in, case.settings["counts"]["vlm_full_before_lora"]["params"])


def manifested(case: Case, name: str) -> dict[str, tuple[int, ...]]:
    """Key → shape of a file of the manifest."""
    return {key: tuple(shape) for key, (shape, _dtype) in case.settings[name].items()}


def made_up(net: nn.Module, names: Renames, seed: int) -> nn.Module:
    """With the weights that the vectors' recipe gives by the reference's names; `names` leads to them."""
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    return loaded(net, {name: recipe(original(name, names), shape, seed) for name, shape in shapes.items()})


def recipe(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The value of the reference's parameter of this name, as README.md of the vectors tells."""
    chance = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    noise = chance.standard_normal(math.prod(shape)).reshape(shape)
    last = name.split(".")[-1]
    if last == "cls_token":
        value = 0.5 * noise
    elif last == "position_embeddings":
        value = 0.2 * noise
    elif "embed" in name and last == "weight" and len(shape) == 2 and "patch_embeddings" not in name:
        value = 0.3 * noise
    elif last == "bias":
        value = 0.1 * noise
    elif len(shape) == 1:
        value = 1.0 + 0.1 * noise
    else:
        value = noise * (1.2 / math.sqrt(math.prod(shape[1:])))
    return torch.from_numpy(value.astype(np.float32))


def subsampled(volume: Tensor, like: np.ndarray) -> Tensor:
    """Every n-th voxel along each axis, as many as `like` has."""
    d, h, w = (-(-side // count) for side, count in zip(volume.shape, like.shape))
    return volume[::d, ::h, ::w]


def numbers(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers of a seed, by numpy's frozen generator."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def smooth_volume(seed: int, shape: tuple[int, int, int]) -> Tensor:
    """(1, 1, D, H, W) in [0, 1]: a wave along each axis, and noise."""
    chance = np.random.RandomState(seed)
    z, y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in shape), indexing="ij")
    turns, phases = chance.uniform(1, 4, 3), chance.uniform(0, 6, 3)
    angles = [2 * np.pi * turn * along + phase for turn, along, phase in zip(turns, (z, y, x), phases)]
    value = 0.5 + 0.2 * np.sin(angles[0]) + 0.15 * np.cos(angles[1]) + 0.1 * np.sin(angles[2])
    value = np.clip(value + 0.05 * chance.standard_normal(shape), 0, 1)
    return torch.from_numpy(value.astype(np.float32))[None, None]
