"""How well the shared encoder knows where it is in a scan, as three figures a person can read.

    python -m ct3d.training.watch CT --out FOLDER

Prints one JSON object. Nothing here needs truth but the header's: see pipeline.whereabouts.
A scan too small for a score doesn't get it.
"""

import argparse
import logging
import math
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from ct3d.cards import load_card
from ct3d.imaging.files import read_volume
from ct3d.models.spatial_ssl import CHUNK
from ct3d.pipeline.job import build_model
from ct3d.pipeline.whereabouts import VIEW_KJI, VIEW_MM, Whereabouts, whereabouts
from ct3d.training.program import ended

RESEARCH = "Research use only."
TRUE, FOUND, NEAR, FAR = "#2a6fbb", "#d1495b", "#2a9d63", "#c77d1e"
CHUNK_MM = CHUNK * 4 * VIEW_MM
AXES = ("right", "front", "up")

log = logging.getLogger("watch")


def main(argv: list[str] | None = None) -> int:
    """Look at one scan; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description="Draw how well the encoder knows where it is in a scan.")
    parser.add_argument("scan", type=Path)
    parser.add_argument("--card", default="threedme_tiny")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    model = build_model(load_card(given.card))
    log.info("Reading the scan")
    volume, _ = read_volume(given.scan)
    log.info("Looking at parts of it")
    found = whereabouts(volume, model)
    log.info("Drawing")
    given.out.mkdir(parents=True, exist_ok=True)
    files = draw(found, given.out)
    scores = {name: value for name, value in found.scores().items() if not math.isnan(value)}  # a small scan
    return {"card": given.card, "scores": scores, "slopes": slopes(found), "files": files}


def slopes(found: Whereabouts) -> dict[str, float]:
    """By axis in words: mm by the head for each mm by the header."""
    return {name: round(float(value), 3) for name, value in zip(AXES, found.slopes)}


def draw(found: Whereabouts, out: Path) -> list[str]:
    """Write gap.png, arrows.png and parts.png; gives their paths."""
    matplotlib.use("Agg")
    pictures = {"gap": gap_figure, "arrows": arrow_figure, "parts": part_figure}
    files = []
    for name, picture in pictures.items():
        figure = picture(found)
        figure.text(0.01, 0.01, RESEARCH, fontsize=8, color="0.4")
        files.append(str(out / f"{name}.png"))
        figure.savefig(files[-1], dpi=130)
        plt.close(figure)
    return files


def gap_points(found: Whereabouts) -> tuple[np.ndarray, np.ndarray]:
    """True and found distances of all pairs of views in mm: what the first figure shows."""
    upper = np.triu_indices(len(found.centers_ras), 1)
    return tuple(np.linalg.norm(each[upper], axis=1) for each in (found.gaps_mm, found.edges_mm))


def gap_figure(found: Whereabouts) -> plt.Figure:
    """Distances between views: the nearer to the line, the better."""
    true, guessed = gap_points(found)
    figure, ax = plt.subplots(figsize=(5.6, 5.4), layout="constrained")
    end = 1.08 * max(true.max(), guessed.max())
    ax.plot([0, end], [0, end], color="0.6", lw=1)
    ax.text(0.80 * end, 0.83 * end, "right", color="0.5", rotation=45, ha="center", va="center")
    ax.scatter(true, guessed, s=44, color=FOUND, edgecolor="white", zorder=3)
    ax.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    ax.set_xlabel("true distance of two crops (mm)")
    ax.set_ylabel("distance as the encoder says (mm)")
    ax.set_title(f"How far apart?  Median error {found.scores()['gap_error_mm']:.0f} mm", fontsize=12)
    return figure


def arrow_ends(found: Whereabouts) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (V - 1, 3) RAS mm of the arrows from each view to the next, as the encoder says."""
    start = found.centers_ras[:-1]
    along = np.arange(len(start))
    return start, start + found.edges_mm[along, along + 1]


def arrow_figure(found: Whereabouts) -> plt.Figure:
    """Arrows from each crop to the next over the body: where the encoder thinks the next one lies."""
    figure, ax = _coronal(found, f"Which way?  Median error {found.scores()['arrow_error_deg']:.0f}°")
    start, end = arrow_ends(found)
    for a, b, true in zip(start, end, found.centers_ras[1:]):
        ax.plot(*zip(a[[0, 2]], true[[0, 2]]), color=TRUE, lw=1.2, ls=":", zorder=2)
        ax.annotate("", b[[0, 2]], a[[0, 2]], arrowprops={"arrowstyle": "-|>", "color": FOUND, "lw": 2})
        ax.plot(*b[[0, 2]], "o", ms=4, color=FOUND)
    for n, center in enumerate(found.centers_ras):
        ax.plot(*center[[0, 2]], "o", ms=15, color=TRUE, mec="white", zorder=4)
        ax.text(*center[[0, 2]], str(n + 1), color="white", ha="center", va="center", fontsize=9, zorder=5)
    ax.plot([], [], "o", color=TRUE, label="crop, in order (dotted: the true way)")
    ax.plot([], [], color=FOUND, lw=2, label="way to the next, as the encoder says")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False, fontsize=9)
    return figure


def part_figure(found: Whereabouts, most: int = 2) -> plt.Figure:
    """Parts of crops that face each other and parts that look away, as the encoder tells them apart."""
    share = found.scores()["ranking"]
    told = "no pair to judge" if not len(found.pairs) else f"{share:.0%} of {len(found.pairs)} pairs right"
    figure, ax = _coronal(found, f"Which parts are near each other?  {told}")
    order = np.argsort(-np.linalg.norm(found.chunks_ras[:, 2] - found.chunks_ras[:, 3], axis=1))
    for pair in order[:most]:
        is_right = found.alike[pair, 0] > found.alike[pair, 1]
        named = (NEAR, NEAR, FAR, FAR) if is_right else (FAR, FAR, NEAR, NEAR)
        for center, color in zip(found.chunks_ras[pair], named):
            corner = center[[0, 2]] - CHUNK_MM / 2
            ax.add_patch(Rectangle(corner, CHUNK_MM, CHUNK_MM, fill=False, lw=2, ec=color))
        for ends, color in ((found.chunks_ras[pair, :2], named[0]), (found.chunks_ras[pair, 2:], named[2])):
            ax.plot(ends[:, 0], ends[:, 2], color=color, lw=1, ls="-" if color == NEAR else ":")
    ax.plot([], [], color=NEAR, lw=2, label="near each other, as the encoder says")
    ax.plot([], [], color=FAR, lw=2, ls=":", label="far from each other")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False, fontsize=9)
    return figure


def _coronal(found, title):
    """The body from the front, mean along the line of sight, in RAS mm; the patient's right at the left."""
    seen = found.seen
    picture = seen.array.astype(np.float32).clip(-1000, 600).mean(1)
    k, i = picture.shape
    corners = np.array([[-0.5, 0, -0.5], [i - 0.5, 0, k - 0.5]])
    (left, _, low), (right, _, high) = corners @ seen.ijk_to_ras[:3, :3].T + seen.ijk_to_ras[:3, 3]
    figure, ax = plt.subplots(figsize=(6.4, 6.8), layout="constrained")
    ax.imshow(picture, cmap="gray", origin="lower", extent=(left, right, low, high))
    reach = np.array(VIEW_KJI) * VIEW_MM / 2
    inside = found.centers_ras[:, [0, 2]]
    ax.set_xlim(max(right, inside[:, 0].max() + reach[2]), min(left, inside[:, 0].min() - reach[2]))
    ax.set_ylim(min(low, inside[:, 1].min() - 20), max(high, inside[:, 1].max() + 20))
    ax.set_facecolor("black")
    ax.set_xlabel("right  ←  mm  →  left")
    ax.set_ylabel("mm upward")
    ax.set_title(title, fontsize=12)
    return figure, ax


if __name__ == "__main__":
    raise SystemExit(main())
