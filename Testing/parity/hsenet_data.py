"""HSENet's preparation of scans and sequences, and its scores, against the reference's vectors."""

from collections.abc import Iterable

import numpy as np
from parity.golden import Case, Comparison, kind
from tokenizers import Tokenizer

from ct3d.pipeline.ct_rate import SHAPE, encoder_slices, encoder_volume
from ct3d.training import prompts
from ct3d.training.retrieval_metrics import likeness, recall
from ct3d.training.text_metrics import is_same_place, is_same_text

MEANS = 1e-6  # the vectors' means were summed in another order


@kind("CT-RATE preparation", fits=lambda case: case.holds("in.raw_int16", "out.slices_uint8"))
def check_preparation(case: Case, _part: str, compare: Comparison) -> None:
    """The volume and the slices, bit for bit."""
    settings = case.settings
    hu_xyz = settings["slope"] * case.arrays["in.raw_int16"].astype(np.float64) + settings["intercept"]
    spacing = tuple(settings["spacing_xyz"])
    volume, _, _ = encoder_volume(hu_xyz, spacing)
    slices, _ = encoder_slices(hu_xyz, spacing, is_compat=True)
    compare.same("shape", volume.shape, SHAPE)
    compare.same("range", [volume.min(), volume.max()], settings["volume_minmax"])
    compare.same("volume", volume[::3, ::8, ::8], case.arrays["out.volume_sub"])
    compare.same("slice 16", volume[16], case.arrays["out.volume_slice16"])
    compare("means", volume.mean(axis=(1, 2)), case.arrays["out.volume_mean_per_slice"], rtol=MEANS)
    compare.same("slices' shape", slices.shape, settings["slice_shape"])
    compare.same("slices", slices[::4], case.arrays["out.slices_uint8"])
    compare("slices' means", slices.mean(axis=(1, 2)), case.arrays["out.slices_mean"], rtol=MEANS)


def samples_of(case: Case) -> Iterable[str]:
    """Keys of the samples."""
    return [each["key"] for each in case.settings["samples"]]


@kind("prompt layout", fits=lambda case: "samples" in case.settings, parts=samples_of)
def check_prompt(case: Case, part: str, compare: Comparison) -> None:
    """Ids, labels and attention of a sample, from its source text."""
    tokenizer = Tokenizer.from_file(str(case.file("tokenizer.json")))
    settings = next(each for each in case.settings["samples"] if each["key"] == part)
    special, source = case.settings["special"], settings["source"]
    answer = prompts.plain_report(source["report"]) if "report" in source else source["anatomy"]
    assert answer == settings["answer"]
    found = prompts.sample(
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        settings["question_without_image_tokens"],
        answer,
        visual=(special["im_patch"], settings["n_image_tokens"]),
        bos=special["eos_id"],
        eos=special["eos_id"],
        length=settings["max_length"],
    )
    compare.same("ids", found.ids, case.arrays[f"{part}.input_ids"])
    compare.same("labels", found.labels, case.arrays[f"{part}.labels"])
    compare.same("attention", found.attention_mask, case.arrays[f"{part}.attention_mask"])


@kind("retrieval", fits=lambda case: "expected_percent" in case.settings)
def check_retrieval(case: Case, _part: str, compare: Comparison) -> None:
    """Percentages as the reference prints them, to its four decimals."""
    images, texts = (case.arrays[f"in.{name}_features"] for name in ("image", "text"))
    labels, expected = case.arrays["in.labels"], case.settings["expected_percent"]
    pairs = {"Image-to-Text Retrieval": (images, texts), "Text-to-Image Retrieval": (texts, images)}
    for name, pair in pairs.items():
        found = recall(*pair, ks=tuple(map(int, expected[name])))
        compare.same(name, [round(each, 4) for each in found.values()], list(expected[name].values()))
    alike = expected["Image-to-Image Retrieval"]
    found = likeness(images, labels, mode="compat", ks=tuple(map(int, alike)))
    compare.same("Image-to-Image", [round(each, 4) for each in found.values()], list(alike.values()))
    left_out = int((~labels.astype(bool).any(axis=1)).sum())
    compare.same("left out", left_out, expected["filtered_images"])


@kind("VQA accuracy", fits=lambda case: "acc_class" in (case.settings.get("cases") or [{}])[0])
def check_accuracy(case: Case, _part: str, compare: Comparison) -> None:
    """Both accuracies of each pair."""
    for n, each in enumerate(case.settings["cases"]):
        pair = each["pred"], each["answer"]
        compare.same(f"class {n}", is_same_place(*pair, "compat"), each["acc_class"])
        compare.same(f"text {n}", is_same_text(*pair), each["acc_text"])
