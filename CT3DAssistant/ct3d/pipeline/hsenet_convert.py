"""Turn HSENet's released files, and the models they stand on, into weights files and cards of ours.

    python -m ct3d.pipeline.hsenet_convert FOLDER --license TEXT --source TEXT [--out FOLDER]

FOLDER is searched with all that lies below it. What a file is, is told by its keys; each must hold the keys
and shapes that its card's config asks for, and no others. A .bin file is read here, as plain tensors, and
nowhere else. Prints one JSON object.
"""

import argparse
import json
import logging
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ct3d.cards import ModelCard, cards_folder, load_card, sha256_of, weights_folder
from ct3d.errors import AssistantError, DiskFull, InvalidRequest, WeightsCorrupt
from ct3d.models.hsenet import under
from ct3d.models.hsenet_clip import TEACHER, ClipConfig, Contrastive, convert
from ct3d.models.hsenet_published import (
    PEFT,
    Lora,
    Shapes,
    adapted_keys,
    assembled,
    clip_keys,
    language_keys,
    misfits,
    trunk_keys,
)
from ct3d.models.slice_encoder import convert as convert_trunk
from ct3d.pipeline.hsenet_reader import (
    LANGUAGE,
    NET,
    TOKENIZER,
    TRUNK,
    VOCABULARY,
    built_aligner,
    built_reader,
    clip_config,
    language_of,
)

State = Mapping[str, Tensor]
Part = Literal["stage 1", "stage 2", "reports", "answers", "slices", "language"]
PARTS: dict[Part, str] = {
    "stage 1": "the stage-1 CLIP (HSENet_CLIP)",
    "stage 2": "the stage-2 CLIP (HSENet-2E3-CLIP)",
    "reports": "the fine-tuned model of reports (HSENet-Phi-4-4B, folder trained_vlm_for_ct_rate)",
    "answers": "the fine-tuned model of answers (HSENet-Phi-4-4B, folder trained_vlm_for_rad_geome)",
    "slices": "BiomedCLIP's image encoder (open_clip_pytorch_model.bin)",
    "language": "the folder of Phi-4-mini-instruct, with config.json and tokenizer.json",
}
NEEDS: dict[str, tuple[Part, ...]] = {  # card id → what it is made of
    "hsenet_clip_stage1": ("stage 1",),
    "hsenet_clip_stage2": ("stage 2", "slices"),
    "hsenet_ct_rate": ("stage 2", "reports", "slices", "language"),
    "hsenet_radgenome": ("stage 2", "answers", "slices", "language"),
}
NO_WEIGHTS = re.compile(r"training_args|optimizer|scheduler|rng_state|scaler")
OF_REPORTS = re.compile(r"ct_?rate|mrg|report|caption", re.IGNORECASE)  # in a path
OF_ANSWERS = re.compile(r"rad_?gen?ome|vqa", re.IGNORECASE)
SLICES_PREFIX, BESIDE_SLICES = "visual.trunk.", ("visual.head.", "text.", "logit_scale")  # of BiomedCLIP
NAMED_KEYS = 20  # of what doesn't fit, in an error

log = logging.getLogger("hsenet_convert")


@dataclass(frozen=True, eq=False)
class Found:
    """One part: its tensors by the file's own names, and where they lay."""

    path: Path
    state: State


def main(argv: list[str] | None = None) -> int:
    """Convert what a folder holds; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    given = _parser().parse_args(argv)
    try:
        told = convert_folder(given.folder, given.out, license_=given.license, source=given.source)
    except AssistantError as error:
        sys.stdout.write(json.dumps({"error": {"code": error.code, "message": str(error)}}) + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def convert_folder(
    folder: Path, out: Path, *, license_: str, source: str, cards: Path | None = None
) -> dict[str, Any]:
    """Write weights and card of every card whose parts a folder holds.

    Args:
        folder: searched with all below it.
        out: where weights go; cards to its sub-folder "cards".
        license_: of the weights, in words, as their source states it.
        source: where they came from.
        cards: folder of the cards that are filled in; None: the shipped ones.

    Returns:
        {"cards": id → weights file, "lacking": id → what is missing for it, in words}.

    Raises:
        InvalidRequest: no card is complete, or it can't be told which file is meant.
        WeightsCorrupt: a file lacks keys, has others, or other shapes; names them.
        DiskFull: the weights can't be written.
    """
    templates, found = cards or cards_folder(), find_parts(folder)
    lacking = {id_: [PARTS[each] for each in needs if each not in found] for id_, needs in NEEDS.items()}
    if all(lacking.values()):
        told = "; ".join(f"{id_} lacks {', '.join(parts)}" for id_, parts in lacking.items())
        raise InvalidRequest(f"{folder} holds no card's files: {told}. Put them there.")
    written = {}
    for id_ in (each for each in NEEDS if not lacking[each]):
        log.info("Converting %s", id_)
        tensors, texts = whole(load_card(id_, templates), found)
        path = write_weights(tensors, texts, out / f"{id_}.safetensors")
        write_card(templates / f"{id_}.toml", path, license_=license_, source=source)
        written[id_] = str(path)
    return {"cards": written, "lacking": {id_: parts for id_, parts in lacking.items() if parts}}


def whole(card: ModelCard, found: Mapping[Part, Found]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the texts of a card's weights file."""
    if card.role == "retrieve":
        return _whole_aligner(card, found)
    base = found["language"]
    config = _language_config(base.path)
    adapted = found["reports" if card.role == "report" else "answers"]
    clip, slices = found["stage 2"], found["slices"]
    tensors = reader_state(card.config, config, clip=clip, adapted=adapted, base=base, slices=slices)
    tokenizer = _text_beside(base.path, "tokenizer.json", "language model")
    return tensors, {LANGUAGE: json.dumps(config), TOKENIZER: tokenizer}


def reader_state(
    values: Mapping[str, Any],
    language_config: Mapping[str, Any],
    *,
    clip: Found,
    adapted: Found,
    base: Found,
    slices: Found | None = None,
) -> dict[str, Tensor]:
    """A reader's nets of the released files, under our names; each file is held to the config before.

    Args:
        values: a card's [config].
        language_config: the config.json of the base language model.
        clip: the stage-2 file.
        adapted: the file of reports or answers.
        base: the language model.
        slices: the slice encoder; None: it is left out.
    """
    nets = built_reader(values, language_of(language_config))
    net = nets["net"]
    language = language_keys(net.language, base.state)
    hold_to(base, language)
    hold_to(clip, _stage2_keys(values))
    lora = Lora(**values.get("lora", {}))
    hold_to(adapted, adapted_keys(net.config, language, lora))
    state = assembled(clip.state, adapted.state, base.state, net.config, lora)
    if net.language.config.tie_word_embeddings:
        state.pop("language.lm_head.weight")
    return {NET + name: value for name, value in state.items()} | _trunk(slices, nets["trunk"])


def hold_to(found: Found, wanted: Shapes) -> None:
    """Refuse a file that has other keys or shapes than wanted.

    Raises:
        WeightsCorrupt: names each key.
    """
    off = list(misfits(found.state, wanted))
    if off:
        more = f" and {len(off) - NAMED_KEYS} more" if len(off) > NAMED_KEYS else ""
        raise WeightsCorrupt(
            f"{found.path} doesn't hold what it should: {'; '.join(off[:NAMED_KEYS])}{more}. "
            "Download it again, and take the files of one release."
        )


def find_parts(folder: Path) -> dict[Part, Found]:
    """What of HSENet's parts a folder holds, told by their keys.

    Raises:
        InvalidRequest: there is no such folder, or two files are the same part.
        WeightsCorrupt: a file can't be read.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"There is no folder {folder}. Check the path.")
    found: dict[Part, Found] = {}
    for path in sorted(each for each in folder.rglob("*") if each.suffix in (".safetensors", ".bin")):
        if NO_WEIGHTS.search(path.name):
            continue
        state = _read(path)
        part = _part_of(state, path.relative_to(folder))
        if part is None:
            log.info("%s is none of HSENet's parts", path)
        elif part in found:
            found[part] = _one_of(part, found[part], Found(path, state))
        else:
            found[part] = _slices(Found(path, state)) if part == "slices" else Found(path, state)
    return found


def _one_of(part, first, second):
    """A language model's shards are one; of a .safetensors and a .bin side by side, the first is taken."""
    is_beside = first.path.parent == second.path.parent
    if is_beside and first.path.suffix != second.path.suffix:
        return first if first.path.suffix == ".safetensors" else second
    if is_beside and part == "language":
        return Found(first.path, {**first.state, **second.state})
    raise InvalidRequest(f"{first.path} and {second.path} both are {PARTS[part]}. Leave one there.")


def _part_of(state: State, path: Path) -> Part | None:
    kinds: dict[Part, tuple[str, ...]] = {
        "stage 2": (TEACHER,),
        "stage 1": ("vision_encoder.", "language_encoder.", "mm_vision_proj."),
        "slices": (SLICES_PREFIX, "patch_embed."),
        "language": ("model.layers.", "model.embed_tokens."),
    }
    if _any_starts(state, (PEFT,)):
        return _adapted_part(path)
    return next((part for part, begins in kinds.items() if _any_starts(state, begins)), None)


def _adapted_part(path: Path) -> Part:
    where = path.as_posix()
    if OF_ANSWERS.search(where):
        return "answers"
    if OF_REPORTS.search(where):
        return "reports"
    raise InvalidRequest(
        f"{path} may be the model of reports or that of answers. Put it into a folder called "
        "trained_vlm_for_ct_rate or trained_vlm_for_rad_geome."
    )


def _slices(found):
    """BiomedCLIP's image trunk alone; the rest of that file is not HSENet's."""
    if not _any_starts(found.state, (SLICES_PREFIX,)):
        return found
    rest = {name: value for name, value in found.state.items() if not name.startswith(SLICES_PREFIX)}
    strange = {name: value for name, value in rest.items() if not name.startswith(BESIDE_SLICES)}
    return Found(found.path, under(found.state, SLICES_PREFIX) | strange)


def _any_starts(state: Iterable[str], begins: tuple[str, ...]) -> bool:
    return any(name.startswith(begins) for name in state)


def _read(path: Path) -> State:
    """Tensors of a file; a .bin holds pickled ones, of which only plain tensors are let in."""
    broken = WeightsCorrupt(f"{path} can't be read as weights. Download it again.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, torch.serialization.pickle.UnpicklingError) as error:
        raise broken from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise broken
    return state


def _whole_aligner(card, found):
    is_guided = clip_config(card.config).is_guided
    clip, nets = found["stage 2" if is_guided else "stage 1"], built_aligner(card.config)
    hold_to(clip, _stage2_keys(card.config) if is_guided else clip_keys(nets["net"]))
    tensors = {NET + name: value for name, value in convert(clip.state).items()}
    if is_guided:
        tensors |= _trunk(found["slices"], nets["trunk"])
    return tensors, {VOCABULARY: _text_beside(clip.path, "vocab.txt", "text encoder")}


def _stage2_keys(values: Mapping[str, Any]) -> Shapes:
    sizes = clip_config(values)
    with torch.device("meta"):
        nets = [Contrastive(ClipConfig(sizes.encoder, guided, sizes.text)) for guided in (True, False)]
    return clip_keys(*nets)


def _trunk(slices, net):
    if slices is None:
        return {}
    hold_to(slices, trunk_keys(net))
    return {TRUNK + name: value for name, value in convert_trunk(slices.state).items()}


def _language_config(weights: Path) -> dict[str, Any]:
    text = _text_beside(weights, "config.json", "language model")
    try:
        config = json.loads(text)
        return {"model_type": config["model_type"], **config}
    except (ValueError, KeyError, TypeError) as error:
        path = weights.with_name("config.json")
        raise WeightsCorrupt(f"{path} is no configuration of a model. Download it again.") from error


def _text_beside(path: Path, name: str, whose: str) -> str:
    try:
        return path.with_name(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path.with_name(name)} of the {whose} is missing. Put it there.") from error


def write_weights(tensors: Mapping[str, Tensor], texts: dict[str, str], path: Path) -> Path:
    """Write a weights file beside its place, then move it there: no half file ever lies there.

    Raises:
        DiskFull: the folder can't take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".ct3d-") as folder:
            part = Path(folder) / path.name
            save_file({name: value.contiguous() for name, value in tensors.items()}, part, metadata=texts)
            part.replace(path)
    except (OSError, SafetensorError) as error:
        raise DiskFull(f"{path} can't be written ({error}). Free space there.") from error
    return path


def write_card(template: Path, weights: Path, *, license_: str, source: str) -> None:
    """The template with licence, source and weights filled in, in the folder "cards" beside the weights."""
    text = template.read_text(encoding="utf-8")
    sources = [*tomllib.loads(text)["source"], source]
    text = re.sub(r"(?m)^obtain = .*\n", "", text)
    for pattern, name, value in (
        (r"(?m)^license = .*$", "license", license_),
        (r"(?ms)^source = \[.*?\]$", "source", sources),
    ):
        line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
        text = re.sub(pattern, lambda _, line=line: line, text, count=1)
    values = {
        "file": weights.name,
        "sha256": sha256_of(weights),
        "megabytes": round(weights.stat().st_size / 1e6, 1),
    }
    text += "".join(["\n[weights]\n", *(f"{name} = {json.dumps(each)}\n" for name, each in values.items())])
    place = weights.parent / "cards" / template.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    load_card(template.stem, place.parent)  # what it refuses is refused here


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the released files, in folders or not")
    parser.add_argument("--license", required=True, help="of the weights, as their source states it")
    parser.add_argument("--source", required=True, help="where they came from")
    parser.add_argument("--out", type=Path, default=weights_folder(), help="where weights and cards go")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
