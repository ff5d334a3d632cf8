"""Both language runtimes beside bare xllamacpp, and how often a model's own sentences survive.

Speeds of one process are measured in turns, so that what else runs on the machine slows all of them alike.
"""

import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

from ct3d.cards import find_weights, load_card
from ct3d.case import Case
from ct3d.pipeline.evidence import check
from ct3d.pipeline.facts import facts_of
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.report import Writer, beginning
from ct3d.pipeline.wording import has_ways, is_a_way
from ct3d.protocol.tasks import ReportParams

CARDS = ("smollm2_135m", "smollm2_135m_transformers")
CASES = sorted((Path(__file__).parents[1] / "golden").glob("case_*.json"))
CHAT = [{"role": "user", "content": "Describe a chest CT in detail."}]
TOKENS = 96
TURNS = 5
SAMPLES = 8  # sentences that passed and failed, quoted of each way of writing


def measure() -> dict:
    """All numbers, each runtime in a fresh process of its own so that its peak memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    found = {}
    for name, work in (("llama_cpp", llama_cpp), ("transformers", transformers), ("survival", survival)):
        ours, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_send, args=(work, theirs))
        process.start()
        theirs.close()
        found[name] = ours.recv()
        process.join()
    return found


def llama_cpp() -> dict:
    """Our llama.cpp runtime and the bare library, in turns: same file, same threads, same request."""
    import xllamacpp

    started = time.perf_counter()
    model = build_model(load_card(CARDS[0]))
    loaded = time.perf_counter() - started
    first = first_token(model)
    memory = peak_mb()
    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights(load_card(CARDS[0])))
    params.n_ctx, params.n_parallel, params.verbosity = 4096, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = model.threads
    bare = xllamacpp.Server(params)
    rates = {"ours": [], "bare": []}
    for _ in range(TURNS):
        rates["ours"].append(rate(model))
        rates["bare"].append(bare_rate(bare))
    ours, theirs = (statistics.median(rates[name]) for name in ("ours", "bare"))
    numbers = {"load_s": round(loaded, 2), "peak_rss_mb": memory, "threads": model.threads, **first}
    return numbers | {
        "tokens_per_s": round(ours, 1),
        "bare_tokens_per_s": round(theirs, 1),
        "ratio": round(ours / theirs, 3),
    }


def transformers() -> dict:
    """Our transformers runtime."""
    started = time.perf_counter()
    model = build_model(load_card(CARDS[1]))
    loaded = time.perf_counter() - started
    first = first_token(model)
    rates = [rate(model) for _ in range(3)]
    numbers = {"load_s": round(loaded, 2), "peak_rss_mb": peak_mb(), "dtype": model.dtype, **first}
    return numbers | {
        "threads": model.threads,
        "tokens_per_s": round(statistics.median(rates), 1),
    }


def survival() -> dict:
    """Share of first-drawn sentences that stand, over every golden case; free: without a grammar."""
    models = [build_model(load_card(name)) for name in CARDS]
    free = SimpleNamespace(write=models[0].write, takes_grammar=False, dtype="gguf")
    ways = {"llama_cpp_grammar": models[0], "llama_cpp_free": free, "transformers_free": models[1]}
    return {
        name: {f"temperature_{heat}": survived(model, heat) for heat in (0.0, 0.7)}
        for name, model in ways.items()
    }


def survived(model, temperature: float) -> dict:
    """Of all facts that a model may word: sentences that pass the guard, and that also are a known way."""
    counts = {"sentences": 0, "guard": 0, "guard_and_wording": 0}
    passed, failed = [], []
    for path in CASES:
        case = Case.from_json(path.read_text(encoding="utf-8"))
        writer = Writer(ReportParams(case, card=""), LocalJob(Path.cwd()), None)
        writer.model = model
        for place, fact in enumerate(facts_of(case)):
            if not has_ways(fact.template):
                continue
            text = writer._draw(fact, temperature, place)
            verdict = check(text, case, fact.evidence)
            stands = verdict.support == "supported" and is_a_way(fact.template, fact.slots, text)
            counts["sentences"] += 1
            counts["guard"] += verdict.support == "supported"
            counts["guard_and_wording"] += stands
            (passed if stands else failed).append(
                text if stands else f"{text} [{'; '.join(verdict.reasons)}]"
            )
    return counts | {"passed": passed[:SAMPLES], "failed": failed[:SAMPLES]}


def first_token(model) -> dict:
    """Seconds to the first piece of a report: prompt unread (cold), then with the common beginning read."""
    seconds = []
    for line in ("right lung | volume 2340 mL", "left lung | volume 1980 mL"):
        started = time.perf_counter()
        _until_first_piece(model, [*beginning(), {"role": "user", "content": line}])
        seconds.append(round(time.perf_counter() - started, 3))
    return {"first_token_cold_s": seconds[0], "first_token_warm_s": seconds[1]}


def rate(model) -> float:
    """Tokens per second from the first piece to the last."""
    times = []
    model.write(
        CHAT, on_piece=lambda piece: times.append(time.perf_counter()) if piece else None, max_tokens=TOKENS
    )
    return (len(times) - 1) / (times[-1] - times[0])


def bare_rate(server) -> float:
    """What the library itself reports for the same request."""
    request = {"messages": CHAT, "max_tokens": TOKENS, "temperature": 0, "cache_prompt": True}
    return server.handle_chat_completions(request)["timings"]["predicted_per_second"]


def peak_mb() -> int:
    """Peak resident memory of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class _Enough(Exception):
    pass


def _until_first_piece(model, messages):
    def stop(piece):
        if piece:
            raise _Enough

    try:
        model.write(messages, on_piece=stop)
    except _Enough:
        return


def _send(work, pipe):
    pipe.send(work())
    pipe.close()


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
