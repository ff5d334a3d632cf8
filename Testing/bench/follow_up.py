"""Seconds to the first word of a first question about a scan, and of a follow-up about the same one.

Twice, by the task "answer" itself, models loaded. `seeing`: HSENet at full size on a real CT, with random
encoders and packers of the published sizes before SmolLM2-135M, whose words then mean nothing; the first
question has the scan prepared, encoded and read. `worded`: the built-in runtime wording what was measured.
"""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bench.landmarks import apart
from ct3d.cards import ModelCard, Weights, find_weights, load_card, sha256_of
from ct3d.case import Case
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume
from ct3d.models.hsenet_vlm import HSENet
from ct3d.models.language import unpacked
from ct3d.models.slice_encoder import Config as SliceConfig
from ct3d.models.slice_encoder import SliceEncoder
from ct3d.pipeline.answer import run
from ct3d.pipeline.hsenet_reader import LANGUAGE, NET, TOKENIZER, TRUNK, config_of, language_of
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.protocol.tasks import AnswerParams, Turn, VolumeRef
from ct3d.worker.model_store import ModelStore
from CT3DAssistantLib.samples import sample_scan

SAMPLE = "lidc_idri_0001"
GOLDEN = Path(__file__).parents[1] / "golden" / f"case_{SAMPLE}.json"
SEEING, LANGUAGE_CARD, BUILT_IN = "hsenet_radgenome", "smollm2_135m_transformers", "smollm2_135m"
QUESTIONS = ("Where is the nodule in this chest CT?", "Is there a pleural effusion?")
DESCRIBED = ("Describe the right lung.", "Describe the nodule.")
TURNS = 3
BUDGET = 8 << 30  # bytes: all is kept


def measure() -> dict:
    """Both, each in a process of its own."""
    worded_runs = [apart(worded) for _ in range(TURNS)]
    with tempfile.TemporaryDirectory() as name:
        apart(write_weights, Path(name))
        return {"seeing": apart(seeing, Path(name)), "worded": summed_up(worded_runs)}


def seeing(folder: Path) -> dict:
    """HSENet's reader: a volume of its own for each turn, which differ in one voxel."""
    torch.set_num_threads(1)  # two crawl where others hold a core
    card, store = card_of(folder), ModelStore(BUDGET)
    started = time.perf_counter()
    model = store.model(card, lambda: build_model(card, (folder,)))
    loaded = time.perf_counter() - started
    volume, runs = read_volume(sample_scan(SAMPLE))[0], []
    for turn in range(TURNS):
        array = volume.array.copy()
        array[0, 0, 0] += turn
        runs.append(asked_twice(store, card, store_volume(Volume(array, volume.ijk_to_ras), folder), folder))
    found = summed_up(runs)
    read = statistics.median(each["stages"]["read the scan"] for each in runs)
    return found | {
        "visual_tokens": model.config.visual_tokens,
        "times_fewer_s_by_what_was_read_alone": round(read / found["follow_up_s"] + 1, 1),
        "stages_of_the_first": runs[0]["stages"],
        "threads": torch.get_num_threads(),
        "load_s": round(loaded, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def asked_twice(store: ModelStore, card: ModelCard, volume: VolumeRef, folder: Path) -> dict:
    """A question about a volume, then another with the first and its answer before it."""
    first = Params(QUESTIONS[0], card, volume)
    seconds, result = first_token(first.params(), Sitting(folder, store, card))
    history = (Turn(QUESTIONS[0], result.answer.text),)
    later, _ = first_token(Params(QUESTIONS[1], card, volume).params(history), Sitting(folder, store, card))
    return {"first": seconds, "follow_up": later, "stages": result.step.stages}


def worded() -> dict:
    """The built-in runtime: its prompt unread at the first question, read up to the facts at the next."""
    card, store = load_card(BUILT_IN), ModelStore(BUDGET)
    store.model(card, lambda: build_model(card))
    with tempfile.TemporaryDirectory() as folder:
        first, following = (
            first_token(Params(each, card).params(), Sitting(Path(folder), store, card))[0]
            for each in DESCRIBED
        )
    return {"first": first, "follow_up": following}


def summed_up(runs: list[dict]) -> dict:
    """Medians, and how many times sooner a follow-up begins; CPU seconds are of all threads."""
    found: dict = {}
    for place, unit in enumerate(("s", "cpu_s")):
        first, following = ([each[name][place] for each in runs] for name in ("first", "follow_up"))
        medians = statistics.median(first), statistics.median(following)
        found |= {f"first_{unit}": round(medians[0], 3), f"follow_up_{unit}": round(medians[1], 3)}
        found[f"times_fewer_{unit}"] = round(medians[0] / medians[1], 1)
        found[f"all_{unit}"] = [[round(one, 3) for one in each] for each in zip(first, following)]
    return found


class Params:
    """One question."""

    def __init__(self, question: str, card: ModelCard, volume: VolumeRef | None = None):
        self.question, self.card, self.volume = question, card, volume

    def params(self, history: tuple[Turn, ...] = ()) -> AnswerParams:
        """About the golden case, whose volume the given one is."""
        case = Case.from_json(GOLDEN.read_text(encoding="utf-8"))
        case = replace(case, input=replace(case.input, sha256=""))
        return AnswerParams(case, self.question, history, card=self.card.id, volume=self.volume)


class Sitting(LocalJob):
    """A job of a worker that keeps its models and what they have read; notes when the first word comes."""

    def __init__(self, folder: Path, store: ModelStore, card: ModelCard):
        super().__init__(folder)
        self.store, self.own_card, self.first_piece = store, card, ()

    def card(self, card_id: str) -> ModelCard:
        return self.own_card if card_id == self.own_card.id else super().card(card_id)

    def model(self, card: ModelCard):
        return self.store.model(card, lambda: build_model(card))

    def remember(self, key, make: Callable):
        return self.store.remember(key, make)

    def on_text(self, piece: str) -> None:
        super().on_text(piece)
        if not self.first_piece and piece.strip():
            self.first_piece = time.perf_counter(), time.process_time()


def first_token(params: AnswerParams, job: Sitting):
    """((wall, CPU) seconds from the question to the first word, the answer)."""
    started = time.perf_counter(), time.process_time()
    result = run(params, job)
    return tuple(end - start for start, end in zip(started, job.first_piece, strict=True)), result


def card_of(folder: Path) -> ModelCard:
    """The card of answers with SmolLM2's width, and the weights of that folder."""
    path, card = folder / f"{SEEING}.safetensors", load_card(SEEING)
    width = language_config()["hidden_size"]
    values = {**card.config, "packer": {**card.config["packer"], "out_dim": width}}
    return replace(card, config=values, weights=Weights(path.name, sha256_of(path)))


def write_weights(folder: Path) -> None:
    """Random encoders and packers of one seed, and SmolLM2 in float32, as one weights file."""
    card, language = load_card(SEEING), language_folder()
    values = {**card.config, "packer": {**card.config["packer"], "out_dim": language_config()["hidden_size"]}}
    torch.manual_seed(0)
    net = HSENet(config_of(values), language_of(language_config()))
    vision = {n: v for n, v in net.state_dict().items() if not n.startswith("language.")}
    words = {f"language.{n}": v.float() for n, v in load_file(language / "model.safetensors").items()}
    state = {NET + name: value for name, value in (vision | words).items()}
    trunk = SliceEncoder(SliceConfig(**card.config["slices"])).state_dict()
    state |= {TRUNK + name: value for name, value in trunk.items()}
    texts = {
        LANGUAGE: json.dumps(language_config()),
        TOKENIZER: (language / "tokenizer.json").read_text(encoding="utf-8"),
    }
    save_file({n: v.contiguous() for n, v in state.items()}, folder / f"{SEEING}.safetensors", metadata=texts)


def language_folder() -> Path:
    """Where SmolLM2 lies unpacked."""
    card = load_card(LANGUAGE_CARD)
    return unpacked(find_weights(card), card.weights.sha256)


def language_config() -> dict:
    """Its config.json."""
    return json.loads((language_folder() / "config.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
