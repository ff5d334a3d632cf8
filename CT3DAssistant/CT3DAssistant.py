"""The four classes that 3D Slicer looks for. Wiring only: what they do lives in CT3DAssistantLib and ct3d."""

import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class CT3DAssistant(ScriptedLoadableModule):
    """What the module is, for the module list, the help panel and the acknowledgements."""

    def __init__(self, parent):
        super().__init__(parent)
        self.sitting = None  # one worker for the application, however many logics ask it
        parent.title = _("CT 3D Assistant")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Informatics")]
        parent.dependencies = []
        parent.contributors = ["CT3DAssistant contributors"]
        parent.helpText = _(
            "Reads a CT with the person in front of it: regions, measurements, landmarks and a draft report "
            "whose every sentence is tied to evidence. Research use only. Not for clinical use."
        )
        parent.acknowledgementText = _(
            "Built on 3D Slicer, SimpleITK and llama.cpp, after the papers 3DME, spatial-aware SSL, HSENet, "
            "H3DE-Net and MedRegion-CT."
        )
        if hasattr(slicer, "app"):  # not where the module is only looked at
            slicer.modules.CT3DAssistantInstance = self
            slicer.app.connect("startupCompleted()", self.registerSamples)

    def registerSamples(self):
        """Offer our samples in the Sample Data module, once the application is up."""
        from CT3DAssistantLib.sampledata import register_samples

        register_samples(self.openSample)

    def openSample(self, name):
        """Show this module and have its Case section fetch and load a sample."""
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule(self.moduleName)
        slicer.util.getModuleWidget(self.moduleName).window.open_sample(name)


class CT3DAssistantWidget(ScriptedLoadableModuleWidget):
    """The module's window: banner, messages and the panels."""

    logic = window = None

    def setup(self):
        from CT3DAssistantLib.panels.window import Window

        super().setup()
        self.logic = CT3DAssistantLogic()
        self.window = Window(self.logic.workspace)
        self.window.widget.setMRMLScene(slicer.mrmlScene)
        self.layout.setContentsMargins(0, 0, 0, 0)  # the panels need a narrow window's whole width
        self.layout.addWidget(self.window.widget)
        if getattr(self.parent, "isEntered", False) is True:
            self.enter()  # the module was loaded anew while it is shown: the application doesn't tell again

    def enter(self):
        if self.window is not None:
            self.window.enter()

    def exit(self):
        if self.window is not None:
            self.window.exit()

    def cleanup(self):
        """The application ends, or the module is loaded anew: the worker ends too."""
        if self.window is not None:
            self.window.close()
            self.window = None
        if self.logic is not None:
            self.logic.close()

    def onReload(self):
        self.cleanup()
        for name in [each for each in sys.modules if each.partition(".")[0] in ("ct3d", "CT3DAssistantLib")]:
            del sys.modules[name]
        super().onReload()


class CT3DAssistantLogic(ScriptedLoadableModuleLogic):
    """What a script can ask for.

    With `waitForCompletion` (the default) each verb gives the volume's case, or raises what went wrong as one
    of ct3d.errors; the application goes on working meanwhile. Without, it gives the job, which has `done`,
    `result()`, `cancel()` and `add_done_callback()`. Progress is told to `onProgress(progress)` with
    `stage`, `fraction` and `eta_s`.
    """

    def analyze(self, volumeNode, waitForCompletion=True, onProgress=None):
        """Regions, landmarks, measurements, findings and a draft report."""
        return self._follow(self.assistant.analyze(volumeNode, onProgress), waitForCompletion)

    def segment(self, volumeNode, waitForCompletion=True, onProgress=None):
        """Regions only, in a new case."""
        return self._follow(self.assistant.segment(volumeNode, onProgress), waitForCompletion)

    def findLandmarks(self, volumeNode, waitForCompletion=True, onProgress=None):
        """Landmarks, from the regions as they are now."""
        return self._follow(self.assistant.find_landmarks(volumeNode, onProgress), waitForCompletion)

    def measure(self, volumeNode, waitForCompletion=True, onProgress=None):
        """Measurements and findings, from the regions as they are now."""
        return self._follow(self.assistant.measure(volumeNode, onProgress), waitForCompletion)

    def draftReport(self, volumeNode, sections=(), waitForCompletion=True, onProgress=None):
        """The report's sections, worded anew; none named: all."""
        job = self.assistant.draft_report(volumeNode, tuple(sections), onProgress)
        return self._follow(job, waitForCompletion)

    def ask(self, volumeNode, question, waitForCompletion=True):
        """An answer about the case: the last of its answers."""
        return self._follow(self.assistant.ask(volumeNode, question), waitForCompletion)

    def case(self, volumeNode):
        """The volume's case (ct3d.case.Case), or None."""
        return self.assistant.case_of(volumeNode)

    def export(self, volumeNode, folder):
        """Write every format of the case into a folder; gives the files' paths."""
        from CT3DAssistantLib.exports.bundle import export_case

        return export_case(slicer.mrmlScene, volumeNode, folder).files

    def getParameterNode(self):
        """What is saved with the scene, as typed attributes."""
        from CT3DAssistantLib.parameter_node import AssistantParameters

        return AssistantParameters(super().getParameterNode())

    @property
    def assistant(self):
        """The verbs as panels use them: an AssistantLogic."""
        return self.sitting.logic

    @property
    def workspace(self):
        """The chosen volume, its case and the selection, as all panels see them."""
        return self.sitting.workspace

    @property
    def sitting(self):
        """The application's worker and workspace, made at first use."""
        if self._owner.sitting is None:
            from CT3DAssistantLib.application import ApplicationSitting
            from CT3DAssistantLib.settings import Settings

            made = ApplicationSitting(slicer.mrmlScene, self.getParameterNode, Settings())
            self._owner.sitting = made
            slicer.app.connect("aboutToQuit()", self.close)
        return self._owner.sitting

    def close(self):
        """End the worker; the next verb starts another."""
        if self._owner.sitting is not None:
            self._owner.sitting.close()
            self._owner.sitting = None

    @property
    def _owner(self):
        return slicer.modules.CT3DAssistantInstance

    def _follow(self, job, waitForCompletion):
        import qt

        self.workspace.start(job)
        if not waitForCompletion:
            return job
        while not job.done:
            slicer.app.processEvents(qt.QEventLoop.WaitForMoreEvents)
        return job.result()


class CT3DAssistantTest(ScriptedLoadableModuleTest):
    """Runs inside the application, by ctest and by the module's Reload and Test button."""

    def runTest(self):
        from CT3DAssistantLib.selftest.walks import run_in_application

        for walked in run_in_application():
            self.delayDisplay(walked)
