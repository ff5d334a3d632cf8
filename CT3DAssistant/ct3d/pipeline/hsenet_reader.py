"""HSENet's models of a card: one reads a volume and writes, one puts volumes and texts in one space.

A weights file is whole: besides its numbers it holds the language model's configuration and its tokenizer (or
the vocabulary of the text encoder), see hsenet_convert, which makes it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ct3d.cards import ModelCard
from ct3d.errors import InvalidRequest, WeightsCorrupt, WeightsMissing
from ct3d.models.hsenet import EncoderConfig, PackerConfig
from ct3d.models.hsenet_clip import ClipConfig, Contrastive
from ct3d.models.hsenet_vlm import Config, HSENet, Prefix, pieces, sampler, visible
from ct3d.models.slice_encoder import Config as SliceConfig
from ct3d.models.slice_encoder import SliceEncoder, normalised
from ct3d.pipeline.hsenet_onnx import take_in_onnx
from ct3d.pipeline.onnx_part import OnnxPart

NET, TRUNK = "net.", "trunk."  # prefixes in a weights file
LANGUAGE, TOKENIZER, VOCABULARY = "language", "tokenizer", "vocabulary"  # its texts
SLICES_AT_ONCE = 4
KNOWN = {"towers", "is_packer_shared", "is_guided"}  # beside the tables of a card's [config]
KNOWN |= {"encoder", "packer", "slices", "text", "lora", "language"}
NAMED_KEYS = 5  # of what doesn't fit, in an error
LEFT_OUT = re.compile(r"""["'()]""")  # of reports, as the text encoder learned them

Check = Callable[[], None]  # raises if the person stopped


@dataclass(frozen=True, eq=False)
class Sight:
    """What a language model has read of one volume, or of a part of it; serves any number of questions."""

    prefix: Prefix

    @property
    def memory_bytes(self) -> int:
        """Of its keys and values."""
        layers = self.prefix.cache.layers
        return sum(each.keys.nbytes + each.values.nbytes for each in layers)


class _Seeing:
    """What both models of a card have: nets with the numbers of a state, and features of slices."""

    def __init__(self, net: nn.ModuleDict, state: Mapping[str, Tensor], card: ModelCard, weights_path: Path):
        load(net, state, card)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if card.runtime == "onnx":
            take_in_onnx(net["net"], config_of(card.config).encoder, card, weights_path, self.device)
        self.net = net.to(self.device).eval()

    @property
    def memory_bytes(self) -> int:
        """Of the nets' numbers."""
        in_onnx = sum(each.memory_bytes for each in self.net.modules() if isinstance(each, OnnxPart))
        return in_onnx + sum(each.nbytes for each in self.net.parameters())

    @torch.inference_mode()
    def slice_features(self, slices: np.ndarray, check: Check) -> Tensor:
        """(S, H, W) uint8 grey slices → (1, S, dim); where slices guide an encoder."""
        return sliced(self.net.trunk, slices, self.device, check)


class HSENetReader(_Seeing):
    """Encoders, packers and language model of a card of the role "report" or "answer".

    Raises:
        WeightsMissing: the card names no weights.
        WeightsCorrupt: the weights are not those of the card's net.
    """

    def __init__(self, card: ModelCard, weights_path: Path | None):
        state, texts = _opened(card, weights_path)
        self.config = config_of(card.config)
        net = built_reader(card.config, language_of(json.loads(texts[LANGUAGE])))
        super().__init__(net, state, card, weights_path)
        self.tokenizer = tokenizer_of(texts[TOKENIZER])

    @torch.inference_mode()
    def visual(self, volume: np.ndarray, slice_features: Tensor | None, check: Check) -> Tensor:
        """(D, H, W) float in [0, 1], as the card's input says → (1, M, width of the language model)."""
        with _checked(self.net.net.towers, check):
            seen = torch.from_numpy(volume).to(self.device, torch.float32)[None, None]
            return self.net.net.visual_tokens(seen, slice_features)

    @torch.inference_mode()
    def read(self, visual: Tensor, check: Check, region: np.ndarray | None = None) -> Sight:
        """Read a volume's tokens once; of a region (D, H, W) bool only those that hold some of it."""
        seen = None if region is None else visible(torch.from_numpy(region), self.config)
        language = self.net.net.language
        with _checked(language, check):
            return Sight(self.net.net.prefix(visual, language.config.bos_token_id, seen))

    @torch.inference_mode()
    def write(
        self,
        sight: Sight,
        prompt: str,
        *,
        on_piece: Callable[[str], None],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The text that follows on a prompt about what was read; `on_piece` may end it by raising.

        Args:
            sight: see `read`.
            prompt: as a person would write it; BOS and visual tokens stand before it already.
            on_piece: called with each new piece of text, which may be empty, between any two tokens.
            max_tokens: of the text.
            temperature: 0 is greedy.
            seed: of what is drawn at other temperatures.
        """
        ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        net, stop = self.net.net, self.net.net.language.config.eos_token_id
        told = []
        with _checked(net.language, lambda: on_piece("")):
            tokens = net.write(sight.prefix, ids, sampler(temperature, seed), stop=stop, most=max_tokens)
            try:
                for piece in pieces(tokens, self.tokenizer.decode):
                    told.append(piece)
                    on_piece(piece)
            finally:
                tokens.close()
        return "".join(told)


class HSENetAligner(_Seeing):
    """The contrastive model of a card of the role "retrieve": volumes and texts as vectors of length 1.

    Raises:
        WeightsMissing: the card names no weights.
        WeightsCorrupt: the weights are not those of the card's net.
    """

    def __init__(self, card: ModelCard, weights_path: Path | None):
        state, texts = _opened(card, weights_path)
        self.is_guided = clip_config(card.config).is_guided
        super().__init__(built_aligner(card.config), state, card, weights_path)
        self.tokenizer = word_pieces_of(texts[VOCABULARY].split("\n"))
        self.most_tokens = self.net.net.text.config.max_position_embeddings

    @torch.inference_mode()
    def embed_volume(self, volume: np.ndarray, slice_features: Tensor | None, check: Check) -> np.ndarray:
        """(D, H, W) float in [0, 1], as the card's input says → (dim,) float32."""
        with _checked(self.net.net.vision, check):
            seen = torch.from_numpy(volume).to(self.device, torch.float32)[None, None]
            return self.net.net.image_features(seen, slice_features)[0, 0].cpu().numpy()

    @torch.inference_mode()
    def embed_text(self, text: str) -> np.ndarray:
        """A report or a sentence → (dim,) float32; what exceeds the text encoder's length is left out."""
        self.tokenizer.enable_truncation(self.most_tokens)
        ids = torch.tensor([self.tokenizer.encode(LEFT_OUT.sub("", text)).ids], device=self.device)
        return self.net.net.text_features(ids, torch.ones_like(ids))[0, 0].cpu().numpy()


def config_of(values: Mapping[str, Any]) -> Config:
    """The vision side's configuration of a card's [config].

    Raises:
        InvalidRequest: the [config] names what no model here has.
    """
    if strange := sorted(values.keys() - KNOWN):
        raise InvalidRequest(f"[config] of a card of HSENet has no {', '.join(strange)}. Mend the card.")
    plain = {name: values[name] for name in ("towers", "is_packer_shared") if name in values}
    parts = EncoderConfig(**values.get("encoder", {})), PackerConfig(**values.get("packer", {}))
    return Config(*parts, **plain)


def clip_config(values: Mapping[str, Any]) -> ClipConfig:
    """The contrastive model's configuration of a card's [config]; raises as `config_of`."""
    encoder = config_of(values).encoder
    return ClipConfig(encoder, values.get("is_guided", False), dict(values.get("text", {})))


def built_reader(values: Mapping[str, Any], language: nn.Module) -> nn.ModuleDict:
    """{"net": HSENet, "trunk": SliceEncoder} of a card's [config], without numbers."""
    with torch.device("meta"):
        trunk = SliceEncoder(SliceConfig(**values.get("slices", {})))
        return nn.ModuleDict({"net": HSENet(config_of(values), language), "trunk": trunk})


def built_aligner(values: Mapping[str, Any]) -> nn.ModuleDict:
    """{"net": Contrastive, and "trunk": SliceEncoder where slices guide it}, without numbers."""
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {"net": Contrastive(clip_config(values))}
        if values.get("is_guided"):
            parts["trunk"] = SliceEncoder(SliceConfig(**values.get("slices", {})))
        return nn.ModuleDict(parts)


def language_of(config: Mapping[str, Any]) -> nn.Module:
    """A causal language model of transformers' own code, of a config.json, without numbers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        fields = {name: value for name, value in config.items() if name != "auto_map"}
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))


def load(net: nn.Module, state: Mapping[str, Tensor], card: ModelCard) -> None:
    """Give a net that was built without numbers those of a state; they keep their precision.

    Raises:
        WeightsCorrupt: a key is missing, unknown, or of another shape.
    """
    wanted = net.state_dict()
    tied = {name for name in wanted.keys() - state.keys() if name.endswith("lm_head.weight")}
    off = sorted((wanted.keys() - tied) ^ state.keys())
    off += sorted(name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape)
    if off:
        raise WeightsCorrupt(
            f"The weights of {card.title} don't fit its card: {', '.join(off[:NAMED_KEYS])}. "
            "Convert or install them again."
        )
    net.load_state_dict(state, strict=False, assign=True)
    for module in net.modules():
        fill_buffers(module)


def fill_buffers(module: nn.Module) -> None:
    """Tables that are in no file, made anew: rotations, and BERT's positions and types of tokens."""
    if hasattr(module, "rotary_emb"):
        module.rotary_emb = type(module.rotary_emb)(config=module.config)
    if callable(getattr(module, "tie_weights", None)):
        module.tie_weights()
    for name, value in list(module.named_buffers(recurse=False)):
        if value.is_meta:
            count = torch.arange(value.shape[-1]) if name == "position_ids" else torch.zeros(1)
            module.register_buffer(name, count.to(value.dtype).expand(value.shape).clone(), persistent=False)


def sliced(trunk: SliceEncoder, slices: np.ndarray, device: str, check: Check) -> Tensor:
    """(S, H, W) uint8 → (1, S, dim), a few at a time."""
    features = []
    for start in range(0, len(slices), SLICES_AT_ONCE):
        check()
        grey = torch.from_numpy(np.ascontiguousarray(slices[start : start + SLICES_AT_ONCE])).to(device)
        features.append(trunk(normalised(grey, trunk.config.image_size)))
    return torch.cat(features)[None]


@contextmanager
def _checked(net: nn.Module, check: Check) -> Iterator[None]:
    """Calls `check` before each of a net's layers, and all the while that one in ONNX Runtime works."""

    def ask(*_: Any) -> None:
        check()

    lists = [each for each in net.modules() if isinstance(each, nn.ModuleList)]
    hooks = [layer.register_forward_pre_hook(ask) for each in lists for layer in each]
    in_onnx = [each for each in net.modules() if isinstance(each, OnnxPart)]
    try:
        for part in in_onnx:
            part.check = check
        yield
    finally:
        for part in in_onnx:
            del part.check
        for hook in hooks:
            hook.remove()


def _opened(card, weights_path):
    """The state and the texts of a card's weights file."""
    if weights_path is None:
        raise WeightsMissing(f"{card.title} has no weights on this machine. {card.obtain}".strip())
    return opened(weights_path)


def opened(weights_path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state and the texts of a weights file.

    Raises:
        WeightsCorrupt: it is none.
    """
    try:
        with safe_open(weights_path, "pt") as file:
            names, texts = file.keys(), file.metadata() or {}
            return {name: file.get_tensor(name) for name in names}, texts
    except SafetensorError as error:
        raise WeightsCorrupt(f"{weights_path} is no weights file ({error}). Convert it again.") from error


def tokenizer_of(text: str) -> Any:
    """The tokenizer of a weights file."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(text)


def word_pieces_of(lines: list[str]) -> Any:
    """The text encoder's tokenizer, of the lines of a vocabulary."""
    from tokenizers import BertWordPieceTokenizer

    return BertWordPieceTokenizer({word: n for n, word in enumerate(lines) if word}, lowercase=True)
