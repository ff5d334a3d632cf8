"""Put what was measured into docs/landmarks.md: tables between its markers, and the figures.

    python -m ct3d.training.landmark_pages --results docs/results --page docs/landmarks.md

The folder holds evaluate_NAME.json for each model (see MODELS), calibrate.json, missing.json and
outline.json, as the programs printed them. A table whose JSON isn't there stays as it is.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ct3d.errors import InvalidRequest
from ct3d.training.documents import fill, table
from ct3d.training.landmark_figures import draw_hits, draw_missing
from ct3d.training.openkbp import LANDMARKS
from ct3d.training.program import ended

MODELS = {  # the last three: 3000 steps each
    "h3denet": "H3DE-Net, shipped: 7500 steps",
    "h3denet_3000": "H3DE-Net",
    "no_attention": "without routing attention",
    "unet": "MONAI U-Net",
}
SHIPPED = "h3denet"
SDR_MM = ("2", "2.5", "3", "4", "6", "8", "10")
SUBSETS = {
    "supported, all cases (main figure)": ("supported", "pooled"),
    "supported, complete cases": ("supported", "complete"),
    "supported, incomplete cases": ("supported", "incomplete"),
    "supported, those told present": ("told", "pooled"),
    "not supported": ("not_supported", "pooled"),
    "all": ("all", "pooled"),
}

MISSING_FIGURE = (
    "![Error and presence by the share of landmarks outside the field of view](images/landmarks_missing.png)"
)


def main(argv: list[str] | None = None) -> int:
    """Fill the page; gives the exit code."""
    given = _parser().parse_args(argv)
    return ended(lambda: fill_page(given.page, given.results))


def fill_page(page: Path, results: Path) -> None:
    """Fill every table whose results are there, and draw their figures beside the page, in images/.

    Raises:
        InvalidRequest: nothing is there, or the page lacks a table's markers.
    """
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")}
    models = {name: found[f"evaluate_{name}"] for name in MODELS if f"evaluate_{name}" in found}
    if not models and not {"missing", "outline"} & found.keys():
        raise InvalidRequest(f"There are no results in {results}. Run the evaluations first.")
    images = page.parent / "images"
    if models:
        fill(page, "models", model_table(models))
        draw_hits({MODELS[name]: each for name, each in models.items()}, images / "landmarks_hits.png")
    if SHIPPED in models:
        fill(page, "subsets", subset_table(models[SHIPPED]))
        fill(page, "landmarks", landmark_table(models[SHIPPED]))
        fill(page, "presence", presence_table(models[SHIPPED]))
        fill(page, "run", run_lines(models[SHIPPED]))
    if "calibrate" in found:
        fill(page, "radius", radius_table(found["calibrate"]))
    if "missing" in found:
        fill(page, "missing", f"{missing_table(found['missing'])}\n\n{MISSING_FIGURE}")
        draw_missing(found["missing"], images / "landmarks_missing.png")
    if "outline" in found:
        fill(page, "outline", outline_table(found["outline"]))


def model_table(models: dict[str, dict[str, Any]]) -> str:
    """Each model on supported landmarks, and the mean position."""
    rows = [
        {"name": MODELS[name], **_errors(each["errors"]["supported"]["pooled"])}
        for name, each in models.items()
    ]
    for row, each in zip(rows, models.values()):
        row["auroc"] = _round(each["presence"].get("pooled", {}).get("auroc"), 3)
        row["seconds"] = _round(each["seconds_per_case"]["mean"], 1)
    baseline = next(iter(models.values()))["mean_position"]["supported"]
    rows.append({"name": "mean position", **_errors(baseline)})
    return table(
        rows, {"name": "model"} | _error_columns() | {"auroc": "presence AUROC", "seconds": "s a case"}
    )


def subset_table(found: dict[str, Any]) -> str:
    """The shipped model by what is shown around a landmark, and by how many of a case's are drawn."""
    rows = [
        {"name": name, "volumes": found["errors"][a][b]["volumes"], **_errors(found["errors"][a][b])}
        for name, (a, b) in SUBSETS.items()
    ]
    return table(rows, {"name": "landmarks", "volumes": "cases"} | _error_columns())


def landmark_table(found: dict[str, Any]) -> str:
    """Errors of each supported landmark, and its presence under cropping."""
    presence = found["presence"].get("landmarks", {})
    rows = [
        {
            "name": name.replace("_", " "),
            **_errors(found["errors"]["supported"]["landmarks"][name]),
            "auroc": _round(presence.get(name, {}).get("auroc"), 3),
        }
        for name in LANDMARKS
    ]
    return table(rows, {"name": "landmark"} | _error_columns() | {"auroc": "presence AUROC"})


def presence_table(found: dict[str, Any]) -> str:
    """Presence under cropping: by probability, away from the cut, and as a person is told."""
    names = {
        "pooled": "probability",
        "clear": f"probability, more than {found['presence']['clear_mm']:g} mm from the cut",
        "told": "what a person is told",
    }
    rows = [
        {"name": name, **found["presence"][key], **found["presence"][key]["counts"]}
        for key, name in names.items()
        if key in found["presence"]
    ]
    for row in rows:
        row |= {key: _round(row[key], 3) for key in ("auroc", "f1", "f1_of_absence")}
    counts = {"true_present": "present, told so", "false_absent": "present, overlooked"}
    counts |= {"true_absent": "absent, told so", "false_present": "absent, told present"}
    columns = {"name": "", "auroc": "AUROC", "f1": "F1 of presence", "f1_of_absence": "F1 of absence"}
    return table(rows, columns | counts)


def radius_table(found: dict[str, Any]) -> str:
    """How many errors the radii hold, with the 95 % interval of that share."""
    own = {name: found["errors"][name].get("radius") for name in ("supported", "not_supported", "all")}
    titles = {
        "supported": "supported, by the card's radii (in-sample: they come from these errors)",
        "not_supported": "not supported, by the card's radii",
        "all": "all, by the card's radii",
    }
    rows = [{"name": "supported, one case left out at a time (the fair figure)"}]
    rows[0] |= _held(found["calibration"]["left_one_out"])
    rows += [{"name": titles[name], **_held(each)} for name, each in own.items() if each]
    return table(rows, {"name": "errors", "n": "n", "percent": "held (%)", "interval": "95 % interval (%)"})


def missing_table(found: dict[str, Any]) -> str:
    """The experiment with missing landmarks, a line a share."""
    rows = [
        {
            **row,
            "mre": _round(row["mre_mm"], 1),
            "interval": "–".join(f"{each:.1f}" for each in row["mre_ci95_mm"] or ()) or None,
            "sdr": _percent(row["sdr_8_mm"]),
            **{key: _round(row[key], 3) for key in ("auroc", "f1")},
            "f1_of_absence": _round(row["f1_of_absence"], 3) if row["absent"] else None,
        }
        for row in found["rows"]
    ]
    columns = {"absent_percent": "absent (%)", "fields_of_view": "fields of view", "present": "inside"}
    columns |= {"absent": "outside", "mre": "MRE inside (mm)", "interval": "95 %", "sdr": "SDR@8 mm (%)"}
    return table(rows, columns | {"auroc": "AUROC", "f1": "F1 of presence", "f1_of_absence": "F1 of absence"})


def outline_table(found: dict[str, Any]) -> str:
    """The experiment with the outline, a line an alteration."""
    rows = [
        {
            **row,
            "mre": _round(row["mre_mm"], 1),
            "before": _round(row["mre_as_released_mm"], 1),
            "sdr": _percent(row["sdr_8_mm"]),
            "told": _percent(row["told_present"]),
        }
        for row in found["rows"]
    ]
    rows.append(
        {"what": "For comparison: the mean position.", "mre": _round(found["mean_position_mre_mm"], 1)}
    )
    columns = {"what": "outline", "landmarks": "n", "mre": "MRE (mm)", "before": "the same, as released (mm)"}
    return table(rows, columns | {"sdr": "SDR@8 mm (%)", "told": "told present (%)"})


def run_lines(found: dict[str, Any]) -> str:
    """What was measured on what, when."""
    cases, presence = found["cases"], found["presence"]
    return (
        f"Card `{found['card_id']}`, weights `{found['weights_sha256'][:12]}`, {found['date']}: "
        f"{cases['count']} cases (`{cases['sha256'][:12]}`), {presence.get('fields_of_view', 0)} random "
        f"fields of view, seed {presence['seed']}; {found['seconds_per_case']['mean']:.1f} s a case."
    )


def _errors(summary):
    hits = {f"sdr_{d}": _percent(summary["sdr"][d]["share"]) for d in SDR_MM}
    return {"n": summary["n"], "mre": _round(summary["mre_mm"], 1), "sd": _round(summary["sd_mm"], 1)} | hits


def _error_columns():
    return {"n": "n", "mre": "MRE (mm)", "sd": "SD"} | {f"sdr_{d}": f"≤ {d} mm (%)" for d in SDR_MM}


def _held(found):
    interval = "–".join(f"{100 * each:.0f}" for each in found["wilson95"] or ()) or None
    return {"n": found["n"], "percent": _percent(found["share"]), "interval": interval}


def _percent(share):
    return None if share is None else round(100 * share, 1)


def _round(value, digits):
    return None if value is None else round(value, digits)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, required=True)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
