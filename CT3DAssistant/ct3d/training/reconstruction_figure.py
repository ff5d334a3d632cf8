"""The error of hidden voxels by their distance to visible ones, as a figure."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt

COLOURS = {"decoder": "#2a6fbb", "inpainting": "#d1495b"}
WORDS = {"decoder": "encoder and decoder", "inpainting": "trilinear inpainting"}
TITLES = {
    "blocks_of_8": "hidden in blocks of 8 voxels",
    "blocks_of_16": "of 16 voxels",
    "blocks_of_32": "of 32 voxels",
    "slabs_of_16": "in slabs of 16 slices",
}


def draw(found: dict[str, Any], path: Path) -> None:
    """Write a PNG of what `evaluate_threedme.reconstruction` gives: a panel for each way of hiding."""
    matplotlib.use("Agg")
    curves = found["mean_absolute_error_hu"]
    figure, panels = plt.subplots(1, len(curves), figsize=(12, 3.8), sharey=True, layout="constrained")
    for ax, (kind, ways) in zip(panels, curves.items()):
        ax.set_title(TITLES[kind], fontsize=11)
        for way, colour in COLOURS.items():
            places, values = points(found["bins_mm"], ways[way]["by_distance"])
            ax.plot(places, values, marker="o", color=colour)
            ax.annotate(
                WORDS[way],
                (places[-1], values[-1]),
                (0, 7),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
        ax.set(ylim=(0, highest(found)), xlim=(0, None))
        ax.grid(alpha=0.2)
    panels[0].set_ylabel("mean absolute error (HU)")
    figure.supxlabel("distance to the nearest visible voxel (mm)", fontsize=11)
    figure.text(0.005, 0.01, "Research use only.", fontsize=8, color="0.4")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def highest(found: dict[str, Any]) -> float:
    """Where the axis of errors ends."""
    curves = [
        way["by_distance"]
        for ways in found["mean_absolute_error_hu"].values()
        for way in (ways[n] for n in COLOURS)
    ]
    return 1.15 * max(value for curve in curves for value in curve if value is not None)


def points(bins_mm: list[float], values: list[float | None]) -> tuple[list[float], list[float]]:
    """Middles of the bins that hold voxels, and the errors there."""
    middles = [(low + high) / 2 for low, high in zip(bins_mm, bins_mm[1:])]
    kept = [(place, value) for place, value in zip(middles, values) if value is not None]
    return [place for place, _ in kept], [value for _, value in kept]
