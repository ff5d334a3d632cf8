"""Commands about models rather than one case: index, retrieve, evaluate, locate, watch."""

import argparse
import json
from pathlib import Path
from typing import Any

from ct3d.case import RESEARCH_USE
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.environment import find_worker_python

TEXTS = ("report", "vqa", "retrieval")  # what evaluate measures from a file of JSON lines
SHOWN = 300  # characters of a report that a search shows


def index(arguments: argparse.Namespace, screen: Any) -> int:
    """Encode a folder of CTs and reports (NAME.txt beside NAME.nii.gz) for retrieve; goes on where it was."""
    from CT3DAssistantLib.session import WorkerOnly
    from CT3DAssistantLib.similar import index_folder

    out = arguments.out.absolute()
    with WorkerOnly(find_worker_python(arguments.worker_python)) as sitting, screen.progress() as move:
        where = {"index": out, "card": arguments.card, "note": screen.note, "on_progress": move}
        folder = arguments.folder.absolute()
        done = index_folder(sitting.client, sitting.exchange.path, folder, **where)
    lines = [f"{out}: {done.added} added, {done.reports} given a report, {done.known} there already"]
    lines += [f"Skipped {path}: {why}" for path, why in done.skipped.items()]
    screen.result("\n".join(lines), index=str(out), done=done)
    return 0


def retrieve(arguments: argparse.Namespace, screen: Any) -> int:
    """Cases of an index that are most like a CT, or like a sentence."""
    from ct3d.imaging.exchange import store_volume
    from ct3d.imaging.files import read_volume
    from ct3d.protocol.tasks import RetrieveParams
    from CT3DAssistantLib.samples import scan_at
    from CT3DAssistantLib.session import WorkerOnly
    from CT3DAssistantLib.similar import card_of_index

    place = arguments.index.absolute()
    card = arguments.card or card_of_index(place)
    with WorkerOnly(find_worker_python(arguments.worker_python)) as sitting, screen.progress() as move:
        scan = arguments.volume and read_volume(scan_at(arguments.volume))[0]
        ref = store_volume(scan, sitting.exchange.path) if scan else None
        params = RetrieveParams(str(place), card, ref, arguments.text or "", arguments.number)
        result = sitting.client.wait(sitting.client.submit("retrieve", params, move))
    lines = [f"{hit.score:6.3f}  {hit.source}{_shown(hit.text)}" for hit in result.hits]
    lines.append(f"{len(result.hits)} of {result.cases} cases, by {card}")
    screen.result("\n".join(lines), hits=result.hits, cases=result.cases, step=result.step, saw=result.saw)
    return 0


def evaluate(arguments: argparse.Namespace, screen: Any) -> int:
    """Measure a card on cases with known truth, or texts and vectors on theirs; prints one JSON object."""
    from CT3DAssistantLib.evaluation import evaluate as run
    from CT3DAssistantLib.exports.files import make_folder, write_file

    if arguments.out:
        make_folder(arguments.out.absolute().parent)
    words = _texts(arguments) if arguments.what in TEXTS else _landmarks(arguments)
    found = run(arguments.what, words, python=find_worker_python(arguments.worker_python), note=screen.note)
    text = json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True)
    if arguments.out:
        write_file(arguments.out, text + "\n")
    screen.say(text)
    return 0


def locate(arguments: argparse.Namespace, screen: Any) -> int:
    """Ask the shared encoder where in the body a scan lies, and whether its header agrees."""
    from ct3d.imaging.exchange import store_volume
    from ct3d.imaging.files import read_volume
    from ct3d.protocol.tasks import LocateParams
    from CT3DAssistantLib.overview import range_words
    from CT3DAssistantLib.samples import scan_at
    from CT3DAssistantLib.session import WorkerOnly

    scan, _ = read_volume(scan_at(arguments.scan))
    with WorkerOnly(find_worker_python(arguments.worker_python)) as sitting, screen.progress() as move:
        params = LocateParams(store_volume(scan, sitting.exchange.path), arguments.card)
        result = sitting.client.wait(sitting.client.submit("locate", params, move))
    lines = [range_words(result.check), *(f"{each.severity.upper()}: {each.text}" for each in result.flags)]
    for each in result.check.places:
        r, a, s = each.position_ras
        place = f"R {r:.0f}  A {a:.0f}  S {s:.0f} mm, within {each.radius_mm:.0f} mm in 90 %"
        lines.append(f"{each.title} expected at {place}")
    screen.result("\n".join([*lines, RESEARCH_USE]), check=result.check, flags=result.flags, step=result.step)
    return 0


def watch(arguments: argparse.Namespace, screen: Any) -> int:
    """Draw how well the shared encoder knows where it is in a scan: three figures and their scores."""
    from CT3DAssistantLib.evaluation import watch as run
    from CT3DAssistantLib.exports.files import make_folder
    from CT3DAssistantLib.samples import scan_at

    out = make_folder(arguments.out.absolute())
    words = [str(scan_at(arguments.scan).absolute()), f"--out={out}", f"--card={arguments.card}"]
    found = run(words, python=find_worker_python(arguments.worker_python), note=screen.note)
    lines = [f"{name}: {value:.3g}" for name, value in sorted(found["scores"].items())]
    screen.result("\n".join([*found["files"], *lines]), **found)
    return 0


def add_options(run: Any, command: argparse.ArgumentParser) -> None:
    """The words of one of these commands."""
    {
        index: _index_options,
        retrieve: _retrieve_options,
        evaluate: _evaluate_options,
        locate: _locate_options,
        watch: _watch_options,
    }[run](command)


def _index_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="searched with all below it")
    command.add_argument("--card", default="hsenet_clip_stage2", metavar="ID", help="of a contrastive model")
    command.add_argument(
        "--out", type=Path, default=Path("ct3d-index"), help="the index (default: ct3d-index)"
    )


def _retrieve_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("index", type=Path, help="folder written by index")
    wanted = command.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--volume", type=Path, metavar="CT", help="find cases like this CT")
    wanted.add_argument("--text", help="find cases like this sentence")
    command.add_argument("--card", default="", metavar="ID", help="default: the one of the index")
    command.add_argument("-n", "--number", type=int, default=5, help="how many cases (default: 5)")


def _locate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("scan", type=Path, help="a CT file, a DICOM folder, or the name of a sample")
    command.add_argument("--card", default="threedme_tiny", metavar="ID", help="of a shared encoder")


def _watch_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("scan", type=Path, help="a CT file, a DICOM folder, or the name of a sample")
    command.add_argument("--card", default="threedme_tiny", metavar="ID", help="of a shared encoder")
    command.add_argument("--out", type=Path, default=Path("watch-output"), help="folder for the figures")


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=["landmarks", *TEXTS])
    command.add_argument("file", type=Path, nargs="?", help="report, vqa, retrieval: JSON lines, or an index")
    command.add_argument("--data", type=Path, help="landmarks: folder of pt_N.npz, laid out as OpenKBP's")
    command.add_argument("--card", default="h3denet_headneck", help="id of the model card, or its TOML file")
    command.add_argument("--weights-folder", type=Path, help="where the card's weights lie, if not as ever")
    command.add_argument("--out", type=Path, help="write the JSON there, too")
    command.add_argument("--seed", type=int, default=0, help="of the random fields of view")
    command.add_argument("--crops", type=int, default=4, help="fields of view a case (default: 4)")


def _texts(arguments: argparse.Namespace) -> list[str]:
    if arguments.file is None:
        raise InvalidRequest(f"Say what to measure: `ct3d-assistant evaluate {arguments.what} FILE.jsonl`.")
    return [arguments.what, str(arguments.file.absolute())]


def _landmarks(arguments: argparse.Namespace) -> list[str]:
    if arguments.data is None:
        raise InvalidRequest("Say which cases to measure on: give their folder with --data.")
    card = Path(arguments.card).absolute() if arguments.card.endswith(".toml") else arguments.card
    options = {"data": arguments.data.absolute(), "card": card, "seed": arguments.seed}
    options |= {"crops": arguments.crops}
    if arguments.weights_folder:
        options["weights-folder"] = arguments.weights_folder.absolute()
    return [f"--{name}={value}" for name, value in options.items()]


def _shown(text: str) -> str:
    told = " ".join(text.split())
    cut = told if len(told) <= SHOWN else f"{told[:SHOWN]}…"
    return f"\n        {cut}" if cut else ""
