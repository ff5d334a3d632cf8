"""Reads .ui files as Slicer does, with the stand-ins for ctk and qMRML widgets."""

from functools import reduce
from operator import or_
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets
from pythonqt_match import enumerators
from widgets_double import STAND_INS


class Loader(QtUiTools.QUiLoader):
    """Qt's own reader, but for widgets that have a stand-in."""

    stand_ins = {kind.__name__: kind for kind in STAND_INS}

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        if class_name in self.stand_ins:
            made = self.stand_ins[class_name](parent)
            made.setObjectName(name)
            return made
        if class_name.startswith(("ctk", "qMRML", "qSlicer")):
            raise NotImplementedError(f"{class_name} has no stand-in; add one to widgets_double.py")
        return super().createWidget(class_name, parent, name)

    def load(self, device: QtCore.QIODevice, parent: Any = None) -> QtWidgets.QWidget:
        """The widget of a .ui file. Connections with MRML in their signature are made here, not by Qt."""
        root = ElementTree.fromstring(device.readAll().data())
        for flags in root.iter("set"):
            spell_out(flags, self.stand_ins)
        ours = [(each, link) for each in root.iter("connections") for link in each if is_of_mrml(link)]
        for connections, link in ours:
            connections.remove(link)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        made = super().load(buffer, parent)
        for _, link in ours:
            connect_mrml(made, link)
        return made


def spell_out(flags: ElementTree.Element, stand_ins: dict[str, type]) -> None:
    """Write a <set> of a stand-in's enumerators as the number that it is."""
    names = [each.rpartition("::") for each in (flags.text or "").split("|")]
    if names[0][0].partition("::")[0] in stand_ins:
        values = [enumerators(stand_ins[each[0].partition("::")[0]])[each[2]] for each in names]
        flags.tag, flags.text = "number", str(reduce(or_, values))


def is_of_mrml(link: ElementTree.Element) -> bool:
    """Whether a <connection> of a .ui file hands a MRML object on."""
    return "vtkMRML" in link.findtext("signal", "")


def connect_mrml(made: QtWidgets.QWidget, link: ElementTree.Element) -> None:
    """Make a <connection> between two stand-ins."""
    ends = (link.findtext("sender"), link.findtext("receiver"))
    sender, receiver = (
        made if made.objectName() == name else made.findChild(QtWidgets.QWidget, name) for name in ends
    )
    signal, slot = (link.findtext(each).partition("(")[0] for each in ("signal", "slot"))
    getattr(sender, signal).connect(getattr(receiver, slot))
