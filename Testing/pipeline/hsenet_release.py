"""HSENet's released files in the small: the layout of the real ones, with random numbers."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from ct3d.cards import ModelCard, cards_folder, load_card
from ct3d.models.hsenet_clip import ClipConfig, Contrastive
from ct3d.models.hsenet_published import Lora, adapted_keys, clip_keys, language_keys, trunk_keys
from ct3d.pipeline.hsenet_reader import built_reader, clip_config, language_of

CARDS = ("hsenet_clip_stage1", "hsenet_clip_stage2", "hsenet_ct_rate", "hsenet_radgenome")
WORDS = ["end", "what", "is", "there", "nodule", "in", "the", "left", "lobe", "no", "effusion", "?"]
WORDS += [f"w{n}" for n in range(len(WORDS), 64)]  # as many as the small language model knows
FILES = {
    "stage 1": "HSENet_CLIP/model.safetensors",
    "stage 2": "HSENet-2E3-CLIP/model.safetensors",
    "reports": "HSENet-Phi-4-4B/trained_vlm_for_ct_rate/pytorch_model.bin",
    "answers": "HSENet-Phi-4-4B/trained_vlm_for_rad_geome/pytorch_model.bin",
    "slices": "BiomedCLIP/open_clip_pytorch_model.bin",
    "language": "Phi-4-mini-instruct/model-00001-of-00002.safetensors",
}


def small_cards(folder: Path) -> Path:
    """The shipped cards with [tiny] as their [config]."""
    folder.mkdir(parents=True, exist_ok=True)
    for id_ in CARDS:
        text = (cards_folder() / f"{id_}.toml").read_text(encoding="utf-8")
        head, _, rest = text.partition("[config]\n")
        tiny = rest.partition("[tiny]\n")[2].replace("[tiny.", "[config.")
        (folder / f"{id_}.toml").write_text(f"{head}[config]\n{tiny}", encoding="utf-8")
    return folder


def random_states() -> dict[str, dict[str, torch.Tensor]]:
    """Part → tensors by the names of its file."""
    torch.manual_seed(0)
    values = load_card("hsenet_ct_rate").tiny
    nets, sizes = built_reader(values, language_of(values["language"])), clip_config(values)
    with torch.device("meta"):
        clips = [Contrastive(ClipConfig(sizes.encoder, guided, sizes.text)) for guided in (False, True)]
    language = language_keys(nets["net"].language, {})
    adapted = adapted_keys(nets["net"].config, language, Lora())
    shapes = {
        "stage 1": clip_keys(clips[0]),
        "stage 2": clip_keys(clips[1], clips[0]),
        "reports": adapted,
        "answers": adapted,
        "slices": {f"visual.trunk.{name}": shape for name, shape in trunk_keys(nets["trunk"]).items()},
        "language": language,
    }
    return {
        part: {name: torch.randn(shape) * 0.2 for name, shape in each.items()}
        for part, each in shapes.items()
    }


def write_release(folder: Path, states: dict[str, dict[str, torch.Tensor]]) -> Path:
    """The states as the files of a release; what lies beside the real ones too."""
    for part, state in states.items():
        path = folder / FILES[part]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".bin":
            torch.save(state, path)
        elif part == "language":  # two shards
            names = sorted(state)
            for n, half in enumerate((names[::2], names[1::2]), 1):
                shard = path.with_name(f"model-0000{n}-of-00002.safetensors")
                save_file({name: state[name] for name in half}, shard)
        else:
            save_file(state, path)
        write_texts(path.parent, part)
    return folder


def write_texts(folder: Path, part: str) -> None:
    """Configuration and tokenizer beside a file."""
    if part == "language":
        language = load_card("hsenet_ct_rate").tiny["language"]
        (folder / "config.json").write_text(json.dumps(language | {"auto_map": {"AutoConfig": "evil.Code"}}))
        write_words(folder, WORDS)
    elif part.startswith("stage"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        (folder / "vocab.txt").write_text("\n".join([*special, *WORDS]) + "\n")
    elif part in ("reports", "answers"):
        torch.save({"not": "weights"}, folder / "training_args.bin")


def write_words(folder: Path, words: list[str]) -> None:
    """The tokenizer of the language model: one word, one token."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="end"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def small_card(id_: str, folder: Path) -> ModelCard:
    """A card of `small_cards`."""
    return load_card(id_, folder)
