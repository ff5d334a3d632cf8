"""Stand-ins for the few ctk and qMRML widgets that the module's .ui files use, in PySide6.

They have the properties, signals and methods of the genuine ones that panels need, under the same names. What
a panel uses beyond that must fail here, so that it is looked up before it is trusted.
"""

from collections.abc import Callable
from enum import IntFlag
from typing import Any

import shiboken6
from PySide6.QtCore import (
    Property,
    QChildEvent,
    QEvent,
    QObject,
    QPoint,
    QRect,
    QSettings,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QPainter, QPalette
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

_UNLIMITED = 16777215  # pixels: Qt's largest height
_INDICATOR = (
    QStyle.PixelMetric.PM_IndicatorWidth,
    QStyle.PixelMetric.PM_IndicatorHeight,
    QStyle.PixelMetric.PM_CheckBoxLabelSpacing,
)


class ctkCollapsibleButton(QAbstractButton):
    """A header that folds the widgets below it.

    What code shows or hides below a folded header takes effect when it opens, as in the genuine one.
    """

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._collapsed, self._collapsed_height, self._is_forcing = False, 10, False
        self._hidden: set[QWidget] = set()  # by code, not by folding
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.setBackgroundRole(QPalette.ColorRole.Window)
        self.toggled.connect(lambda is_open: self._collapse(not is_open))

    def isCollapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    def setCollapsedHeight(self, height: int) -> None:
        self._collapsed_height = height
        self.updateGeometry()

    collapsed = Property(bool, lambda self: self._collapsed, setCollapsed)
    collapsedHeight = Property(int, lambda self: self._collapsed_height, setCollapsedHeight)

    def _header_size(self) -> QSize:
        option = QStyleOptionButton()
        option.initFrom(self)
        text = self.fontMetrics().size(Qt.TextFlag.TextShowMnemonic, self.text() or "XXXX")
        mark = [self.style().pixelMetric(each, option, self) for each in _INDICATOR]
        inside = QSize(text.width() + mark[0] + mark[2], max(text.height(), mark[1]))
        return self.style().sizeFromContents(QStyle.ContentsType.CT_PushButton, option, inside, self)

    def _header_height(self) -> int:
        return self._header_size().height()

    def childEvent(self, event: QChildEvent) -> None:
        child = event.child()
        if event.added() and child.isWidgetType():
            child.installEventFilter(self)
            if self._collapsed:
                self._force(child, visible=False)
        super().childEvent(event)

    def eventFilter(self, child: QObject, event: QEvent) -> bool:
        if not self._is_forcing and event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            if event.type() == QEvent.Type.HideToParent:
                self._hidden.add(child)
            else:
                self._hidden.discard(child)
                if self._collapsed:
                    self._force(child, visible=False)
        return False

    def _force(self, child: QWidget, *, visible: bool) -> None:
        self._is_forcing = True
        child.setVisible(visible)
        if child not in self._hidden:  # so that hiding it, while it is folded away, is heard
            child.setAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._is_forcing = False

    def _collapse(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self.setMaximumHeight(self.sizeHint().height() if collapsed else _UNLIMITED)
        for child in self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            self._force(child, visible=not collapsed and child not in self._hidden)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def hitButton(self, place: QPoint) -> bool:
        return place.y() < self._header_height()

    def sizeHint(self) -> QSize:
        folded = self._header_size() + QSize(0, self._collapsed_height)
        return folded if self._collapsed or self.layout() is None else folded.expandedTo(self._inside()[1])

    def minimumSizeHint(self) -> QSize:
        if self._collapsed:
            return self.sizeHint()
        return self._header_size().expandedTo(self._inside()[0]) if self.layout() else self._header_size()

    def _inside(self) -> tuple[QSize, QSize]:
        return self.layout().totalMinimumSize(), self.layout().totalSizeHint()

    def paintEvent(self, _event: Any) -> None:
        painter, option = QPainter(self), QStyleOptionButton()
        option.initFrom(self)
        height = self._header_height()
        option.rect = QRect(0, 0, self.width(), height)
        if self.isDown():
            option.state |= QStyle.StateFlag.State_Sunken
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = QStyleOption(option)
        arrow.rect = QRect(6, 6, height - 12, height - 12)
        pointing = QStyle.PE_IndicatorArrowRight if self._collapsed else QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(pointing, arrow, painter, self)
        painter.setPen(option.palette.buttonText().color())
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextShowMnemonic
        painter.drawText(option.rect.adjusted(height, 0, 0, 0), flags, self.text())


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
        AllEntries = 0x007
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

    def sizeHint(self) -> QSize:
        """As wide as the path in it, however long; so is the least size."""
        text = self.fontMetrics().horizontalAdvance(self._path() or 7 * "x") + 8
        return QSize(text + self._button.sizeHint().width(), self._edit.sizeHint().height())

    minimumSizeHint = sizeHint

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

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUserAction = Signal(object)
    SIGNATURES = _InScene.SIGNATURES | {
        f"{name}(vtkMRMLNode*)": f"{name}(PyObject)"
        for name in ("currentNodeChanged", "nodeActivated", "nodeAdded", "nodeAddedByUserAction")
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
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)  # however long a name is
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._box.setEnabled(False)  # until there is a scene
        self._box.currentIndexChanged.connect(self._tell)
        self._box.activated.connect(lambda _row: self.nodeActivated.emit(self.currentNode()))

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
        self._box.setEnabled(scene is not None)
        self._fill()

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._id()) if self._scene is not None and self._id() else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self._fill()
        self._box.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else -1)

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

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
        self.nodeAddedByUserAction.emit(node)
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
            self.currentNodeChanged[object].emit(self.currentNode())
            self.currentNodeChanged[bool].emit(self.currentNode() is not None)
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
