"""Figures of docs/landmarks.md, drawn from the JSON of evaluations and experiments."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ct3d.case import RESEARCH_USE

INK, GRAY = "#1a1a1a", "#8a8a8a"
COLOURS = (
    "#0072b2",
    "#56b4e9",
    "#d55e00",
    "#009e73",
    "#8a8a8a",
)  # told apart with any colour vision (Okabe and Ito)
MARKERS = ("o", "v", "s", "^", "D")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def draw_missing(found: dict[str, Any], path: Path) -> None:
    """Error of the present landmarks, and presence, by the share that the field of view has lost."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(6.4, 3.1)
        left, right = figure.subplots(1, 2)
        _draw_errors(left, [row for row in found["rows"] if row["mre_mm"] is not None])
        _draw_presence(right, found["rows"])
        for axes in (left, right):
            axes.set_xlabel("Landmarks outside the field of view (%)")
            axes.set_xlim(-3, 63)
            axes.set_xticks(range(0, 61, 10))
        count = f"{found['cases']['count']} patients, {found['fields_of_view']} fields of view"
        _save(figure, path, f"{count}. Bars: 95 % interval, fields of view drawn anew. {RESEARCH_USE}")


def draw_hits(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Share of supported landmarks placed within a distance, one line a model.

    Args:
        found: model's name → what `evaluate` gave.
        path: of the PNG.
    """
    with matplotlib.rc_context(STYLE):
        figure = _figure(4.6, 3.3)
        axes = figure.subplots()
        lines = {name: each["errors"]["supported"]["pooled"] for name, each in found.items()}
        lines["mean position"] = next(iter(found.values()))["mean_position"]["supported"]
        for n, (name, pooled) in enumerate(lines.items()):
            hits = [(float(d), 100 * each["share"]) for d, each in pooled["sdr"].items()]
            label = f"{name}, MRE {pooled['mre_mm']:.1f} mm"
            axes.plot(*zip(*sorted(hits)), color=COLOURS[n], marker=MARKERS[n], ms=4, lw=1.4, label=label)
        axes.set(xlabel="Distance (mm)", ylabel="Landmarks within (%)", xlim=(1.5, 10.5), ylim=(0, 102))
        axes.legend(loc="upper left", fontsize=7)
        first = next(iter(found.values()))
        count = f"{first['cases']['count']} patients, {lines['mean position']['n']} supported landmarks"
        _save(figure, path, f"{count}. {RESEARCH_USE}")


def _draw_errors(axes: Axes, rows: list[dict[str, Any]]) -> None:
    percent = [row["absent_percent"] for row in rows]
    means = [row["mre_mm"] for row in rows]
    bars = [[m - row["mre_ci95_mm"][0], row["mre_ci95_mm"][1] - m] for m, row in zip(means, rows)]
    axes.errorbar(
        percent, means, yerr=list(zip(*bars)), color=COLOURS[0], marker="o", ms=4, lw=1.4, capsize=2
    )
    top = max(row["mre_ci95_mm"][1] for row in rows)
    for row in rows:
        axes.annotate(
            f"{row['present']}",
            (row["absent_percent"], 0),
            (0, 3),
            textcoords="offset points",
            fontsize=7,
            ha="center",
            color=GRAY,
        )
    axes.set_ylim(0, 1.15 * top)
    axes.set_ylabel("Mean radial error (mm)")
    axes.set_title("Error of those inside (their number below)")


def _draw_presence(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for (key, name), colour, marker in zip(
        (("auroc", "AUROC"), ("f1", "F1 of presence"), ("f1_of_absence", "F1 of absence")), COLOURS, MARKERS
    ):
        there = [row for row in rows if row[key] is not None and (row["absent"] or key == "f1")]
        places = [row["absent_percent"] for row in there], [row[key] for row in there]
        axes.plot(*places, color=colour, marker=marker, ms=4, lw=1.4, label=name)
    axes.set_ylim(0, 1.04)
    axes.set_ylabel("Presence: AUROC, F1")
    axes.set_title("Which are inside?")
    axes.legend(loc="lower right", fontsize=7.5)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path, note: str) -> None:
    """A PNG that is the same, bit for bit, for the same numbers."""
    figure.supxlabel(note, fontsize=6.5, color=GRAY, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
