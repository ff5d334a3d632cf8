"""Our samples in the application's Sample Data module."""

from collections.abc import Callable
from typing import Any

from CT3DAssistantLib.resources import resource_path
from CT3DAssistantLib.samples import samples

CATEGORY = "CT3DAssistant"


def register_samples(open_sample: Callable[[str], None]) -> None:
    """List the samples in the Sample Data module, where the application has it.

    Args:
        open_sample: called with the sample's name when a person clicks it; has it fetched and loaded, and
            returns at once.
    """
    try:
        from SampleData import SampleDataLogic
    except ImportError:
        return
    logic: Any = SampleDataLogic
    known = {source.sampleName for source in logic.sampleDataSourcesByCategory(CATEGORY)}
    for sample in samples().values():
        if sample.name not in known:
            logic.registerCustomSampleDataSource(
                category=CATEGORY,
                sampleName=sample.name,
                uris=sample.packages[0].name,
                fileNames=sample.name,
                thumbnailFileName=str(resource_path("Icons", "samples", f"{sample.name}.png")),
                customDownloader=lambda source: open_sample(source.sampleName),
            )
