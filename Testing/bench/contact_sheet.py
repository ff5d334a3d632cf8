"""Every sample CT through the whole chain, on one picture to be looked at, and a table of what was said.

Each scan gives one row: axial, coronal and sagittal pictures with outlines, then its report. What broke,
was refused or contradicts its evidence is told.
"""

import argparse
import json
import textwrap
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bench.scans import scans
from ct3d.case import Case
from ct3d.errors import AssistantError
from CT3DAssistantLib.pictures import key_pictures
from CT3DAssistantLib.scene import add_volume, layers_of, volume_from_node
from CT3DAssistantLib.session import Sitting

TILE_PX, TEXT_PX = 300, 620
QUESTIONS = (
    "Is there a lung nodule?",
    "What is the volume of the left lung?",
    "Is there a pleural effusion?",
)


def main() -> None:
    """Analyse, draw, write contact_sheet.png and contact_sheet.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker-python", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("bench-output"))
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--openkbp", type=int, default=3, help="how many of them; -1: all")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, told = [], {}
    for name, load in scans(arguments.openkbp).items():
        if not arguments.only or name in arguments.only:
            row, told[name] = analysed(name, load, arguments.worker_python)
            rows.append(row)
            print(name, {key: value for key, value in told[name].items() if key != "case"}, flush=True)
    sheet(rows).save(arguments.out / "contact_sheet.png")
    (arguments.out / "contact_sheet.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(f"contradicted sentences: {sum(each.get('contradicted', 0) for each in told.values())}")


def analysed(name: str, load, worker_python: Path) -> tuple[Image.Image, dict]:
    """One scan's row, and what is to be known of it."""
    started = time.perf_counter()
    try:
        volume, notes = load()
        with Sitting(worker_python) as sitting:
            node = add_volume(sitting.scene, volume, notes=notes)
            chain = sitting.logic.analyze(node)
            case = sitting.finish(chain)
            for question in QUESTIONS:
                case = sitting.finish(sitting.logic.ask(node, question))
            pictures = key_pictures(case, volume_from_node(node), layers_of(sitting.scene, node))
    except AssistantError as error:
        return row_of(name, [], [f"{type(error).__name__}: {error}"]), {"refused": str(error)}
    summary = {
        "seconds": round(time.perf_counter() - started, 1),
        "broken": {task: str(error) for task, error in chain.errors.items()},
        "contradicted": sum(each.support == "contradicted" for each in case.sentences),
        "sentences": len(case.sentences),
        "regions": [each.id for each in case.regions if each.presence != "absent"],
        "case": json.loads(case.to_json()),
    }
    return row_of(name, list(pictures.values()), lines_of(case)), summary


def lines_of(case: Case) -> list[str]:
    """What the case says, line by line."""
    sentences = [f"{each.section}: {each.text}" for each in case.sentences]
    flags = [f"! {each.severity}: {each.text}" for each in case.flags]
    answers = [f"Q {each.question}  A {each.text}" for each in case.answers]
    return [*sentences, *flags, *answers, *(f"note: {each}" for each in case.input.notes)]


def row_of(name: str, pictures: list[Image.Image], lines: list[str]) -> Image.Image:
    """Three pictures and the text beside them."""
    row = Image.new("RGB", (3 * TILE_PX + TEXT_PX, TILE_PX), "white")
    for n, picture in enumerate(pictures[:3]):
        tile = picture.copy()
        tile.thumbnail((TILE_PX, TILE_PX))
        row.paste(tile, (n * TILE_PX, 0))
    wrapped = [part for line in [name.upper(), *lines] for part in textwrap.wrap(line, 118)]
    draw = ImageDraw.Draw(row)
    draw.multiline_text(
        (3 * TILE_PX + 8, 4), "\n".join(wrapped[:27]), "black", ImageFont.load_default(9), spacing=1
    )
    return row


def sheet(rows: list[Image.Image]) -> Image.Image:
    """All rows, one below the other."""
    picture = Image.new("RGB", (rows[0].width, sum(row.height + 4 for row in rows)), "grey")
    for n, row in enumerate(rows):
        picture.paste(row, (0, n * (row.height + 4)))
    return picture


if __name__ == "__main__":
    main()
