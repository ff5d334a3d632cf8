"""HSENet's encoders and packers in ONNX Runtime: for cards that say `runtime = "onnx"`.

The files are made of the verified weights at first use and lie beside them, in a folder that bears the
weights' checksum. They take the one size of volume that the card's model sees, one volume at a time, and any
number of slices. They give what PyTorch gives to 1e-4 of the largest value (Testing/pipeline).
"""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ct3d.cards import ModelCard, sha256_of
from ct3d.errors import DiskFull, WeightsCorrupt, WeightsMissing
from ct3d.models.hsenet import Encoder, EncoderConfig, GuidedEncoder, PoolingPacker, SpatialPacker
from ct3d.models.layers import Size3
from ct3d.pipeline.onnx_part import OnnxPart, export

FORMAT = 1  # of the files; another makes them anew
CHECKSUMS = "sha256.json"
MOST_SLICES = 1024
TO_RUN, TO_EXPORT = ("onnxruntime",), ("onnx", "onnxscript")  # packages


def take_in_onnx(net: nn.Module, encoder: EncoderConfig, card: ModelCard, weights: Path, device: str) -> None:
    """Put ONNX files in the place of a net's encoders and packers; writes them where they aren't yet.

    Args:
        net: with the numbers of the card's weights.
        encoder: its volumes' size and patches.
        card: names the weights' checksum.
        weights: the verified file.
        device: "cuda" or "cpu".

    Raises:
        WeightsMissing: a package is not here.
        WeightsCorrupt: a file is not as it was written.
        DiskFull: the files can't be written.
    """
    _need(card, *TO_RUN)
    parts = parts_of(net)
    folder = weights.with_name(f"{weights.stem}-{card.weights.sha256[:12]}-onnx{FORMAT}")
    if not (folder / CHECKSUMS).is_file():
        _need(card, *TO_EXPORT)
        _write(parts, encoder, folder)
    sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    for name in parts:
        path = folder / f"{name}.onnx"
        if not path.is_file() or sums.get(path.name) != sha256_of(path):
            raise WeightsCorrupt(f"{path} is not as it was written. Delete its folder; it is made anew.")
        net.set_submodule(name, OnnxPart(path, device))


def parts_of(net: nn.Module) -> dict[str, nn.Module]:
    """The encoders and packers of a net by their dotted names."""
    kinds = (Encoder, SpatialPacker, PoolingPacker)
    return {name: part for name, part in net.named_modules() if isinstance(part, kinds)}


def export_part(part: Encoder | SpatialPacker | PoolingPacker, sizes: EncoderConfig, path: Path) -> None:
    """An encoder, or a packer of its tokens, for volumes of one size."""
    if isinstance(part, Encoder):
        export_encoder(part, sizes.image_size, path)
    else:
        export_packer(part, sizes.grid, path)


def export_encoder(part: Encoder, size: Size3, path: Path) -> None:
    """(1, C, D, H, W) `volume`, and (1, S, dim) `slices` where they guide it → (1, 1 + N, dim)."""
    inputs, longest = {"volume": torch.zeros(1, part.config.channels, *size)}, {}
    if isinstance(part, GuidedEncoder):
        inputs["slices"] = torch.zeros(1, 2, part.config.dim)
        d, h, w = part.patches.grid_of(inputs["volume"])
        longest["slices"] = min(MOST_SLICES, d * h * w)  # beyond that PyTorch takes another, equal way
    export(part, inputs, path, longest=longest)


def export_packer(part: SpatialPacker | PoolingPacker, grid: Size3, path: Path) -> None:
    """(1, N, dim) `tokens` of a grid → (1, windows, out_dim)."""
    d, h, w = grid
    export(OnGrid(part, grid), {"tokens": torch.zeros(1, d * h * w, part.config.dim)}, path)


class OnGrid(nn.Module):
    """A packer for one grid."""

    def __init__(self, packer: nn.Module, grid: Size3):
        super().__init__()
        self.packer, self.grid = packer, grid

    def forward(self, tokens: Tensor) -> Tensor:
        return self.packer(tokens, self.grid)


def _write(parts, encoder, folder):
    """Beside its place, then moved there: no half folder ever lies there."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".ct3d-") as name:
            made = Path(name) / folder.name
            made.mkdir()
            for part_name, part in parts.items():
                export_part(part, encoder, made / f"{part_name}.onnx")
            sums = {path.name: sha256_of(path) for path in made.iterdir()}
            (made / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
            made.rename(folder)
    except OSError as error:
        raise DiskFull(f"{folder} can't be written ({error}). Free space there.") from error


def _need(card, *packages):
    if lacking := [each for each in packages if find_spec(each) is None]:
        raise WeightsMissing(
            f"{card.title} runs in ONNX Runtime; the worker's Python lacks {', '.join(lacking)}. Install "
            'Resources/requirements-onnx.txt there with pip, or take `runtime = "onnx"` out of the card.'
        )
