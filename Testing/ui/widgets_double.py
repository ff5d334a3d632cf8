"""Stand-ins for the few ctk and qMRML widgets that the module's .ui files use, in PySide6.

They have the properties, signals and methods of the genuine ones that panels need, under the same names. What
a panel uses beyond that must fail here, so that it is looked up before it is trusted.
"""

from collections.abc import Callable
from enum import IntFlag
from typing import Any

import shiboken6
from PySide6.QtCore import Property, QPoint, QRect, QSettings, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QToolButton,
    QWidget,
)


class ctkCollapsibleButton(QAbstractButton):
    """A header that folds the widgets below it; a child that was hidden before stays hidden when it opens."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._folded: list[QWidget] | None = None
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Policy.MinimumExpanding, QSizePolicy.Policy.Preferred)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setContentsMargins(0, self.header_height(), 0, 0)
        self.toggled.connect(self._fold)

    def isCollapsed(self) -> bool:
        return not self.isChecked()

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, isCollapsed, setCollapsed)

    def header_height(self) -> int:
        return max(self.fontMetrics().height() + 8, self.style().pixelMetric(QStyle.PM_IndicatorHeight) + 6)

    def _fold(self, is_open: bool) -> None:
        children = self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly)
        if is_open:
            for child in self._folded or ():
                if shiboken6.isValid(child):
                    child.setVisible(True)
            self._folded = None
        elif self._folded is None:
            self._folded = [child for child in children if not child.isHidden() and not child.isWindow()]
            for child in self._folded:
                child.setVisible(False)
        self.setMaximumHeight(16777215 if is_open else self.header_height())
        self.updateGeometry()
        self.contentsCollapsed.emit(not is_open)

    def hitButton(self, place: QPoint) -> bool:
        return place.y() < self.header_height()

    def sizeHint(self) -> QSize:
        width = self.fontMetrics().horizontalAdvance(self.text()) + 40
        inside = self.layout().totalSizeHint() if self.layout() and not self.isCollapsed() else QSize()
        return QSize(width, self.header_height()).expandedTo(inside)

    def minimumSizeHint(self) -> QSize:
        inside = self.layout().totalMinimumSize() if self.layout() and not self.isCollapsed() else QSize()
        return QSize(0, self.header_height()).expandedTo(inside)

    def paintEvent(self, _event: Any) -> None:
        painter, option = QPainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width(), self.header_height())
        if self.isDown():
            option.state |= QStyle.StateFlag.State_Sunken
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = QStyleOption(option)
        side = self.header_height() - 10
        arrow.rect = QRect(6, 5, side, side)
        pointing = QStyle.PE_IndicatorArrowRight if self.isCollapsed() else QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(pointing, arrow, painter, self)
        painter.setPen(option.palette.buttonText().color())
        room = option.rect.adjusted(self.header_height() + 2, 0, -4, 0)
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextShowMnemonic
        painter.drawText(room, flags, self.text())


class ctkPathLineEdit(QWidget):
    """A path with a button to look for it; `filters` are the ints of QDir's."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    class Filter(IntFlag):
        """Of the genuine widget: those of QDir."""

        Dirs = 0x001
        Files = 0x002
        Drives = 0x004
        NoSymLinks = 0x008
        Readable = 0x010
        Writable = 0x020
        Executable = 0x040
        Hidden = 0x100
        System = 0x200
        AllDirs = 0x400
        NoDot = 0x2000
        NoDotDot = 0x4000

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._names: list[str] = []
        self._filters = self.Filter.Files | self.Filter.NoDot | self.Filter.NoDotDot
        self._key = ""
        self._edit, self._button = QLineEdit(self), QToolButton(self)
        self._button.setText("…")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(self._button)
        self.setFocusProxy(self._edit)
        self._edit.textChanged.connect(self.currentPathChanged)

    def _path(self) -> str:
        return self._edit.text()

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def setNameFilters(self, names: list[str]) -> None:
        self._names = list(names)

    def setFilters(self, filters: int) -> None:
        self._filters = self.Filter(filters)

    def setSettingKey(self, key: str) -> None:
        self._key = key
        kept = QSettings().value(f"PathLineEdit/{key}") or []
        if kept and not self._path():
            self.setCurrentPath(kept if isinstance(kept, str) else kept[0])

    def addCurrentPathToHistory(self) -> None:
        if self._key and self._path():
            QSettings().setValue(f"PathLineEdit/{self._key}", [self._path()])

    currentPath = Property(str, _path, setCurrentPath)
    nameFilters = Property("QStringList", lambda self: self._names, setNameFilters)
    filters = Property(int, lambda self: int(self._filters), setFilters)
    settingKey = Property(str, lambda self: self._key, setSettingKey)


class _InScene(QWidget):
    """What has a scene: told by `setMRMLScene`, as the genuine widgets are."""

    mrmlSceneChanged = Signal(object)
    SIGNATURES = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLWidget(_InScene):
    """Hands its scene to the widgets that the .ui file connects with it."""


def _switch(name: str) -> tuple[Property, Callable]:
    """(the property, its setter) of something that is on or off."""

    def write(self: "qMRMLNodeComboBox", value: bool) -> None:
        self._switches[name] = value
        self._fill()

    return Property(bool, lambda self: self._switches[name], write), write


class qMRMLNodeComboBox(_InScene):
    """Chooses a node of the scene; a widget with a combo box in it, not a combo box."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    SIGNATURES = _InScene.SIGNATURES | {
        f"{name}(vtkMRMLNode*)": f"{name}(PyObject)"
        for name in ("currentNodeChanged", "nodeAdded", "nodeAddedByUser")
    }

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._types: list[str] = []
        self._hidden_types: list[str] = []
        self._attributes: list[tuple[str, str, str | None]] = []
        self._switches = dict.fromkeys(("noneEnabled", "editEnabled", "renameEnabled", "showHidden"), False)
        on = ("addEnabled", "removeEnabled", "selectNodeUponCreation", "showChildNodeTypes")
        self._switches |= dict.fromkeys(on, True)
        self._base_name, self._none_display = "", "None"
        self._ids: list[str] = []
        self._told = ""
        self._observed: list[tuple[Any, int]] = []
        self._box = QComboBox(self)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(8)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._box.currentIndexChanged.connect(self._tell)

    def setMRMLScene(self, scene: Any) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        if scene is not None:
            names = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent")
            for name in (*names, "EndImportEvent"):
                tag = scene.AddObserver(getattr(scene, name), self._heard)
                self._observed.append((scene, tag))
        super().setMRMLScene(scene)
        self._fill()

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._id()) if self._scene is not None and self._id() else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self._fill()
        self._box.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else -1)

    def nodeCount(self) -> int:
        return len([each for each in self._ids if each])

    def nodeFromIndex(self, index: int) -> Any:
        return self._scene.GetNodeByID([each for each in self._ids if each][index])

    def addNode(self, kind: str = "") -> Any:
        kind = kind or self._types[0]
        name = self._base_name or self._scene.GetTagByClassName(kind) or kind
        node = self._scene.AddNewNodeByClass(kind, self._scene.GenerateUniqueName(name))
        if self._switches["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def addAttribute(self, kind: str, name: str, value: str | None = None) -> None:
        self._attributes.append((kind, name, value))
        self._fill()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [each for each in self._attributes if each[:2] != (kind, name)]
        self._fill()

    def setNodeTypes(self, types: list[str]) -> None:
        self._types = list(types)
        self._fill()

    def setHideChildNodeTypes(self, types: list[str]) -> None:
        self._hidden_types = list(types)
        self._fill()

    def setBaseName(self, name: str) -> None:
        self._base_name = name

    def setNoneDisplay(self, text: str) -> None:
        self._none_display = text
        self._fill()

    def _id(self) -> str:
        index = self._box.currentIndex()
        return self._ids[index] if 0 <= index < len(self._ids) else ""

    def _heard(self, _scene: Any, _event: str) -> None:
        if shiboken6.isValid(self):
            self._fill()

    def _shows(self, node: Any) -> bool:
        exact = self._switches["showChildNodeTypes"] or node.GetClassName() in self._types
        hidden = node.GetHideFromEditors() and not self._switches["showHidden"]
        barred = any(node.IsA(kind) and node.GetClassName() not in self._types for kind in self._hidden_types)
        marked = all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )
        return exact and not hidden and not barred and marked

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        every = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        return [node for node in every if any(map(node.IsA, self._types)) and self._shows(node)]

    def _fill(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        chosen, nodes = self._id(), self._nodes()
        has_none = self._switches["noneEnabled"]
        self._box.blockSignals(True)
        self._box.clear()
        self._ids = [""] * has_none + [node.GetID() for node in nodes]
        self._box.addItems([self._none_display] * has_none + [node.GetName() or "" for node in nodes])
        lost = 0 if self._ids else -1
        self._box.setCurrentIndex(self._ids.index(chosen) if chosen in self._ids else lost)
        self._box.blockSignals(False)
        self._tell()

    def _tell(self, *_: Any) -> None:
        if self._id() != self._told:
            self._told = self._id()
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(self._told)

    currentNodeID = Property(str, _id, setCurrentNodeID)
    nodeTypes = Property("QStringList", lambda self: self._types, setNodeTypes)
    hideChildNodeTypes = Property("QStringList", lambda self: self._hidden_types, setHideChildNodeTypes)
    baseName = Property(str, lambda self: self._base_name, setBaseName)
    noneEnabled, setNoneEnabled = _switch("noneEnabled")
    addEnabled, setAddEnabled = _switch("addEnabled")
    removeEnabled, setRemoveEnabled = _switch("removeEnabled")
    editEnabled, setEditEnabled = _switch("editEnabled")
    renameEnabled, setRenameEnabled = _switch("renameEnabled")
    showHidden, setShowHidden = _switch("showHidden")
    showChildNodeTypes, setShowChildNodeTypes = _switch("showChildNodeTypes")
    selectNodeUponCreation, setSelectNodeUponCreation = _switch("selectNodeUponCreation")
    noneDisplay = Property(str, lambda self: self._none_display, setNoneDisplay)


STAND_INS = (ctkCollapsibleButton, ctkPathLineEdit, qMRMLWidget, qMRMLNodeComboBox)
