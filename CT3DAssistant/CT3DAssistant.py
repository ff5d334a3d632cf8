"""The four classes that 3D Slicer looks for. Wiring only: what they do lives in CT3DAssistantLib and ct3d."""

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


class CT3DAssistantWidget(ScriptedLoadableModuleWidget):
    """The module's panel: what it is for. Analysis runs through the logic and the command line."""

    def setup(self):
        import qt

        super().setup()
        label = qt.QLabel(self.parent.title if hasattr(self.parent, "title") else _("CT 3D Assistant"))
        notice = qt.QLabel(_("Research use only. Not for clinical use."))
        self.layout.addWidget(label)
        self.layout.addWidget(notice)
        self.layout.addStretch(1)


class CT3DAssistantLogic(ScriptedLoadableModuleLogic):
    """Gives scripts the headless logic over the application's scene."""

    def assistant(self, client, exchange_dir):
        """An AssistantLogic over the application's scene and a client of the worker."""
        from CT3DAssistantLib.logic import AssistantLogic

        return AssistantLogic(slicer.mrmlScene, client, exchange_dir)


class CT3DAssistantTest(ScriptedLoadableModuleTest):
    """Runs inside the application, by ctest and by the module's Reload and Test button."""

    def runTest(self):
        self.setUp()
        self.test_a_volume_survives_the_way_into_the_engine()

    def setUp(self):
        slicer.mrmlScene.Clear()

    def test_a_volume_survives_the_way_into_the_engine(self):
        import numpy as np

        from CT3DAssistantLib.scene import volume_from_node

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        slicer.util.updateVolumeFromArray(node, np.arange(24, dtype=np.int16).reshape(2, 3, 4))
        node.SetSpacing(1.0, 2.0, 3.0)
        volume = volume_from_node(node)
        self.assertEqual(volume.array.shape, (2, 3, 4))
        self.assertEqual(volume.spacing_kji_mm, (3.0, 2.0, 1.0))
