"""What is saved with the scene: which volume is looked at, its results, and the model profile.

One such node per scene, a singleton. The case of each volume lies in a node of its own (see `ownership`),
which is none: so neither is ever taken for the other.
"""

import slicer
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class AssistantParameters:
    """Attributes over the scene's parameter node.

    Attributes:
        inputVolume: the CT that is chosen.
        segmentation: regions of its case.
        landmarks: landmarks of its case.
        caseNode: the node that holds its case.
        profile: id of the model profile; "" for the default.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    landmarks: slicer.vtkMRMLMarkupsFiducialNode
    caseNode: slicer.vtkMRMLScriptedModuleNode
    profile: str = ""
