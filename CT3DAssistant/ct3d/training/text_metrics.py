"""How near a written report or answer is to the reference.

Source: HSENet (arXiv 2506.09634), evaluations of YanzhaoShi/HSENet @ c7198f3, re-derived from what they do.
"compat" is what those print, "clean" what the words mean:

* BLEU-n. compat: the n-gram precision of each text, averaged over texts; neither a geometric mean nor a
  penalty for brevity. clean: BLEU up to n-grams over the whole set, by sacrebleu, unsmoothed.
* ROUGE-1, ROUGE-L: F1 of words (letters and digits, lower case), averaged over texts; alike in both. Written
  here: the common package of it has had no release since 2022.
* METEOR: nltk's, of words and their stems, averaged over texts; alike in both. Synonyms need WordNet, a
  separate download, and are left out: expect slightly less than with it.
* Place. compat: the first part of an answer counts as right wherever it stands in the reference, so an empty
  answer is right too. clean: the first parts must be the same.

BERTScore is left out: its model is a download of 1.4 GB.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

Mode = Literal["compat", "clean"]
Pairs = Sequence[tuple[str, str]]  # (written, reference)

WORD = re.compile(r"[a-z0-9]+")
ORDERS = (1, 2, 3, 4)
OTHERS = "others"
GROUPS = (  # of places, in the order in which a reference is looked through
    "lung",
    "trachea and bronchie",
    "mediastinum",
    "heart",
    "esophagus",
    "pleura",
    "bone",
    "thyroid",
    "breast",
    "abdomen",
)


def text_scores(pairs: Pairs, mode: Mode = "clean") -> dict[str, float]:
    """BLEU-1 to 4, ROUGE-1, ROUGE-L and METEOR, in percent."""
    bleu = bleu_precisions(pairs) if mode == "compat" else corpus_bleu(pairs)
    return bleu | {
        "rouge_1": _mean(pairs, rouge_1),
        "rouge_l": _mean(pairs, rouge_l),
        "meteor_without_synonyms": _mean(pairs, meteor),
    }


def corpus_bleu(pairs: Pairs) -> dict[str, float]:
    """BLEU of the whole set, with its penalty for brevity, in percent."""
    from sacrebleu.metrics import BLEU

    written, references = zip(*pairs)
    scores = {n: BLEU(max_ngram_order=n, smooth_method="none") for n in ORDERS}
    return {f"bleu_{n}": each.corpus_score(written, [references]).score for n, each in scores.items()}


def bleu_precisions(pairs: Pairs) -> dict[str, float]:
    """What the reference calls BLEU-n: n-gram precision of each text, averaged over texts, in percent."""
    from sacrebleu.metrics import BLEU

    score = BLEU(smooth_method="none")
    found = [score.corpus_score([written], [[reference]]) for written, reference in pairs]
    shares = np.array([np.divide(each.counts, np.maximum(each.totals, 1)) for each in found])
    return {f"bleu_{n}": float(100 * share) for n, share in zip(ORDERS, shares.mean(axis=0))}


def rouge_1(written: str, reference: str) -> float:
    """F1 of the words that both have, 0 to 1."""
    one, other = words(written), words(reference)
    return _f1(sum((Counter(one) & Counter(other)).values()), len(one), len(other))


def rouge_l(written: str, reference: str) -> float:
    """F1 of the longest common sequence of words, 0 to 1."""
    one, other = words(written), words(reference)
    row = np.zeros(len(other) + 1, int)
    for word in one:
        longer = row[:-1] + np.array([word == each for each in other], int)
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], longer))
    return _f1(int(row[-1]), len(one), len(other))


def meteor(written: str, reference: str) -> float:
    """METEOR of words and stems, without synonyms, 0 to 1."""
    from nltk.translate.meteor_score import meteor_score

    one, other = words(written), words(reference)
    return float(meteor_score([other], one, wordnet=_NoSynonyms())) if one and other else 0.0


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return WORD.findall(text.lower())


def is_same_place(answer: str, reference: str, mode: Mode = "clean") -> bool:
    """Whether the place is in the right part of the body: paths like "lung/left lung/lower lobe"."""
    answer, reference = answer.strip().lower(), reference.strip().lower()
    first = answer.split("/")[0]
    return first in reference if mode == "compat" else first == reference.split("/")[0]


def is_same_text(answer: str, reference: str) -> bool:
    """Whether they are the same but for case and outer spaces."""
    return answer.strip().lower() == reference.strip().lower()


def group_of(reference: str, mode: Mode = "clean") -> str:
    """The part of the body that a reference is about.

    compat: the first of GROUPS that stands anywhere in it, so that "abdomen/bone" is bone. clean: its first
    part, where that is one of GROUPS.
    """
    place = reference.strip().lower()
    if mode == "compat":
        return next((each for each in GROUPS if each in place), OTHERS)
    first = place.split("/")[0].strip()
    return first if first in GROUPS else OTHERS


def place_scores(pairs: Pairs, mode: Mode = "clean") -> dict[str, Any]:
    """Accuracies of answers about a place, in percent: all pooled, by group, and the groups' mean."""
    right = np.array([is_same_place(*pair, mode) for pair in pairs])
    same = np.array([is_same_text(*pair) for pair in pairs])
    groups = np.array([group_of(reference, mode) for _, reference in pairs])
    table = {
        name: {
            "count": int((groups == name).sum()),
            "major_class": float(100 * right[groups == name].mean()),
            "exact": float(100 * same[groups == name].mean()),
        }
        for name in (*GROUPS, OTHERS)
        if (groups == name).any()
    }
    means = {key: float(np.mean([row[key] for row in table.values()])) for key in ("major_class", "exact")}
    pooled = {"major_class": float(100 * right.mean()), "exact": float(100 * same.mean())}
    return {**pooled, "mean_of_groups": means, "groups": table}


class _NoSynonyms:
    """In place of WordNet: no word has any."""

    @staticmethod
    def synsets(_word: str) -> list:
        return []


def _mean(pairs: Pairs, score: Callable[[str, str], float]) -> float:
    return float(100 * np.mean([score(*pair) for pair in pairs]))


def _f1(common: int, written: int, wanted: int) -> float:
    return 2 * common / (written + wanted) if common else 0.0
