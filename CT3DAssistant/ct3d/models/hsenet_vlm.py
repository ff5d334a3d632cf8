"""HSENet whole: encoders, packers and a language model; a volume and a question in, text out.

Source: arXiv 2506.09634; re-derived from the behaviour of YanzhaoShi/HSENet @ c7198f3.
Kept, because the published weights depend on it: a prompt is BOS, then the visual tokens in place of
positions 1 to M, then the question, whatever the ids at those positions are; the global encoder's tokens come
first, the guided one's after them.
Differs: the language model is any of transformers' causal ones, given as a module; both packers are built
where both are used (the reference forgets the second on reloading); keys and values of BOS and the visual
tokens are computed once a volume and serve every question about it; visual tokens can be masked out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.hsenet import (
    Encoder,
    EncoderConfig,
    GuidedEncoder,
    PackerConfig,
    build_packer,
    convert_encoder,
    convert_packer,
    under,
)
from ct3d.models.layers import grid_of

STAGE1, STAGE2 = "model.vision_tower.vision_tower_stage1.", "model.vision_tower.vision_tower_stage2."
PROJECTORS = ("model.mm_projector.", "model.mm_projector2.")
ENOUGH = 0.95  # top-p of sampled text

Draw = Callable[[Tensor], int]  # logits (vocabulary,) → token id


@dataclass(frozen=True)
class Config:
    """Which encoders and packers there are; the defaults are the published model's.

    Attributes:
        towers: the global encoder, the one that slices guide, or both.
        is_packer_shared: one packer for both streams.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    packer: PackerConfig = field(default_factory=PackerConfig)
    towers: Literal["dual", "global", "guided"] = "dual"
    is_packer_shared: bool = False

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the encoders, in the order of their tokens."""
        return ("global", "guided") if self.towers == "dual" else (self.towers,)

    @property
    def visual_tokens(self) -> int:
        """How many tokens of the prompt a volume takes."""
        d, h, w = (g // n for g, n in zip(self.encoder.grid, self.packer.window))
        return d * h * w * len(self.streams)


class Prefix(NamedTuple):
    """What every question about a volume begins with, read by the language model.

    Attributes:
        cache: its keys and values (transformers' DynamicCache).
        length: tokens, BOS included.
        seen: (1, length) 1 where a token may be looked at.
    """

    cache: Any
    length: int
    seen: Tensor


class HSENet(nn.Module):
    """Encoders, packers and language model.

    Args:
        config: of the vision side.
        language: a causal language model of transformers; its embeddings are as wide as a packer's tokens.
    """

    def __init__(self, config: Config, language: nn.Module):
        super().__init__()
        self.config = config
        nets = {"global": Encoder, "guided": GuidedEncoder}
        self.towers = nn.ModuleDict({name: nets[name](config.encoder) for name in config.streams})
        packers = config.streams[:1] if config.is_packer_shared else config.streams
        self.packers = nn.ModuleDict({name: build_packer(config.packer) for name in packers})
        self.language = language

    def tokens_of(self, volume: Tensor, slices: Tensor | None) -> list[Tensor]:
        """(B, N, dim) of each encoder, without its class token."""
        return [tower(volume, slices)[:, 1:] for tower in self.towers.values()]

    def visual_tokens(self, volume: Tensor, slices: Tensor | None) -> Tensor:
        """(B, M, width of the language model)."""
        grid = grid_of(volume, self.config.encoder.patch_size)
        return self.packed(self.tokens_of(volume, slices), grid)

    def packed(self, tokens: list[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """(B, M, width of the language model) of the encoders' tokens."""
        packers = list(self.packers.values()) * (len(tokens) if self.config.is_packer_shared else 1)
        return torch.cat([packer(each, grid) for packer, each in zip(packers, tokens)], dim=1)

    def spliced(self, ids: Tensor, visual: Tensor) -> Tensor:
        """(B, T, width) embedded ids with positions 1 to M overwritten by visual tokens."""
        embedded = self.language.get_input_embeddings()(ids)
        after = embedded[:, 1 + visual.shape[1] :]
        return torch.cat([embedded[:, :1], visual.to(embedded.dtype), after], dim=1)

    def forward(
        self, volume: Tensor, slices: Tensor | None, ids: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """(B, T, vocabulary) logits.

        Args:
            volume: (B, C, D, H, W) in [0, 1].
            slices: (B, S, dim) features; None where no encoder is guided.
            ids: (B, T); those at positions 1 to M are not looked at.
            attention_mask: (B, T), 0 for padding.
        """
        embeds = self.spliced(ids, self.visual_tokens(volume, slices))
        return self.language(inputs_embeds=embeds, attention_mask=attention_mask).logits

    def prefix(
        self,
        visual: Tensor,
        bos: int,
        seen: Tensor | None = None,
        *,
        batch: int = 64,
        between: Callable[[], None] = lambda: None,
    ) -> Prefix:
        """BOS and the visual tokens of one volume, read once.

        Args:
            visual: (1, M, width).
            bos: id of the token that begins a prompt.
            seen: (M,) bool, visual tokens that may be looked at; None: all. Others have no influence at all.
            batch: tokens read at once.
            between: called before each batch; what it raises ends the reading.
        """
        from transformers import DynamicCache

        count = visual.shape[1]
        ids = torch.tensor([[bos] + [0] * count], device=visual.device)
        may = torch.ones(1, 1 + count, dtype=torch.long, device=visual.device)
        if seen is not None:
            may[0, 1:] = seen.to(may)
        cache, embeds = DynamicCache(), self.spliced(ids, visual)
        for start in range(0, 1 + count, batch):
            between()
            end = min(start + batch, 1 + count)
            self.language(
                inputs_embeds=embeds[:, start:end],
                attention_mask=may[:, :end],
                past_key_values=cache,
                logits_to_keep=1,
            )
        return Prefix(cache, 1 + count, may)

    def write(
        self, prefix: Prefix, ids: list[int], draw: Draw, *, stop: int | None, most: int
    ) -> Iterator[int]:
        """New token ids after a question, one by one; the prefix is left as it was, whenever this ends.

        Close the iterator (or use it up) before the prefix serves another question.

        Args:
            prefix: see there; another question may follow on it.
            ids: of the question, at least one.
            draw: how the next token is chosen.
            stop: the id that ends the text, and isn't given; None: none does.
            most: tokens.
        """
        seen, fresh = prefix.seen, ids
        device = prefix.seen.device
        try:
            for _ in range(most):
                seen = F.pad(seen, (0, len(fresh)), value=1)
                output = self.language(
                    torch.tensor([fresh], device=device),
                    attention_mask=seen,
                    past_key_values=prefix.cache,
                    logits_to_keep=1,
                )
                token = draw(output.logits[0, -1].float())
                if token == stop:
                    return
                yield token
                fresh = [token]
        finally:
            for layer in prefix.cache.layers:  # a stop between two layers leaves them of different lengths
                layer.crop(prefix.length - layer.get_seq_length())


def pieces(ids: Iterator[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Text as its tokens come; a character that needs more tokens waits for them."""
    kept: list[int] = []
    told = ""
    for token in ids:
        kept.append(token)
        whole = decode(kept)
        if not whole.endswith("\ufffd"):
            yield whole[len(told) :]
            told = whole


def visible(region: Tensor, config: Config) -> Tensor:
    """(M,) bool for `prefix`: the visual tokens whose window of voxels holds a voxel of a region.

    region: (D, H, W) bool on the encoder's grid of voxels, whose sides are `config.encoder.image_size`.
    """
    window = tuple(p * w for p, w in zip(config.encoder.patch_size, config.packer.window))
    held = F.max_pool3d(region[None, None].float(), window)[0, 0] > 0
    return held.flatten().repeat(len(config.streams))


def greedy(logits: Tensor) -> int:
    """The likeliest token."""
    return int(logits.argmax())


def sampler(temperature: float, seed: int) -> Draw:
    """Draws among the likeliest tokens that together hold ENOUGH; temperature 0 is greedy."""
    if temperature <= 0:
        return greedy
    generator = torch.Generator().manual_seed(seed)

    def draw(logits: Tensor) -> int:
        chances, order = torch.softmax(logits.cpu() / temperature, -1).sort(descending=True)
        chances[chances.cumsum(-1) - chances > ENOUGH] = 0
        return int(order[torch.multinomial(chances, 1, generator=generator)])

    return draw


def language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each next token; labels (B, T) of -100 take no part."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)


def convert(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The reference's keys of a whole model under the names of `HSENet`.

    Packers that the config doesn't use are left out: the reference's files hold them all the same.
    """
    towers = {"global": under(state, STAGE1), "guided": under(state, STAGE2)}
    ours = {}
    for name in config.streams:
        ours |= _prefixed(f"towers.{name}.", convert_encoder(towers[name]))
    packers = config.streams[:1] if config.is_packer_shared else config.streams
    for name, theirs in zip(packers, PROJECTORS):
        ours |= _prefixed(f"packers.{name}.", convert_packer(under(state, theirs)))
    vision = ("model.vision_tower.", *PROJECTORS)
    rest = {name: value for name, value in state.items() if not name.startswith(vision)}
    return ours | _prefixed("language.", rest)


def _prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}
