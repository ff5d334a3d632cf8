"""Test double: gives PySide6 the calling conventions of PythonQt, so a Slicer scripted-module widget can run headless.

install() puts `qt`, `ctk` and the missing parts of `slicer` in sys.modules.  Convention rules it enforces:
  * Q_PROPERTY   -> attribute (label.text, label.text = "x"); calling it raises TypeError, exactly as in Slicer
  * setX() slots -> still callable
  * signals      -> obj.connect("clicked(bool)", f), obj.disconnect(...), and obj.clicked.connect(f)
  * no keyword arguments in constructors, no Signal/Slot decorators
"""

from __future__ import annotations
import sys, types, inspect, weakref
from PySide6 import QtCore, QtGui, QtWidgets, QtUiTools, QtNetwork

KEEP_METHOD = {"sizeHint", "minimumSizeHint", "isWindowModified", "children"}  # virtual in C++: leave alone


def _propertyize(cls):
    mo = getattr(cls, "staticMetaObject", None)
    if mo is None:
        return
    for i in range(mo.propertyOffset(), mo.propertyCount()):
        p = mo.property(i)
        name = p.name()
        if isinstance(name, (bytes, QtCore.QByteArray)):
            name = bytes(name).decode()
        if name in KEEP_METHOD:
            continue
        setter = next(
            (getattr(cls, s) for s in (f"set{name[0].upper()}{name[1:]}",) if hasattr(cls, s)), None
        )
        getter = next(
            (
                getattr(cls, g)
                for g in (name, f"is{name[0].upper()}{name[1:]}", f"get{name[0].upper()}{name[1:]}")
                if callable(getattr(cls, g, None))
                and not isinstance(inspect.getattr_static(cls, g), (QtCore.Signal, property))
            ),
            None,
        )
        if getter is None:  # e.g. QTextEdit.plainText / html
            getter = lambda self, n=name: QtCore.QObject.property(self, n)
            setter = setter or (lambda self, v, n=name: QtCore.QObject.setProperty(self, n, v))
        try:
            setattr(
                cls,
                name,
                property(
                    lambda self, g=getter: g(self), (lambda self, v, s=setter: s(self, v)) if setter else None
                ),
            )
        except TypeError:
            pass


def _signal_of(obj, signature):
    name, _, args = signature.partition("(")
    sig = getattr(obj, name)
    args = args.rstrip(")").strip()
    if args:
        for key in (args, tuple(a.strip() for a in args.split(","))):
            try:
                return sig[key]
            except (KeyError, IndexError, TypeError):
                pass
    return sig


def _connect(self, signature, fn):
    _signal_of(self, signature).connect(fn)
    return True


def _disconnect(self, signature=None, fn=None):
    sig = _signal_of(self, signature)
    sig.disconnect(fn) if fn else sig.disconnect()
    return True


class _PythonQtMixin:
    """PySide's own QObject.connect cannot be replaced on the class (special-cased in tp_getattro): shadow it per subclass."""

    def __getattribute__(self, name):
        if name == "connect":
            return lambda *a: _connect(self, *a)
        if name == "disconnect":
            return lambda *a: _disconnect(self, *a)
        return super().__getattribute__(name)

    def __setattr__(self, name, value):
        # PythonQt refuses new attributes on wrapped C++ objects (they are fine on Python subclasses)
        if type(self).__module__ == "qt" and not hasattr(type(self), name):
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects is not allowed"
            )
        super().__setattr__(name, value)


def _no_kwargs_init(base):
    def __init__(self, *args, **kwargs):
        if kwargs:
            raise ValueError(
                f"Called {base.__name__} with keyword arguments, but called slot does not support kwargs."
            )
        base.__init__(self, *args)

    return __init__


SUBCLASS = {}


def make_qt():
    qt = types.ModuleType("qt")
    for mod in (QtCore, QtGui, QtWidgets, QtUiTools, QtNetwork):
        for n in dir(mod):
            if n.startswith("Q"):
                setattr(qt, n, getattr(mod, n))
    classes = [(n, c) for n, c in vars(qt).items() if isinstance(c, type) and issubclass(c, QtCore.QObject)]
    for n, c in sorted(
        classes, key=lambda nc: len(nc[1].__mro__), reverse=True
    ):  # leaves first: base getters still methods
        _propertyize(c)
    QtCore.QObject.name = property(
        lambda self: self.objectName
    )  # PythonQt alias used by slicer.util.childWidgetVariables
    QtCore.QObject.className = lambda self: self.metaObject().className()
    for n, c in classes:
        try:
            SUBCLASS[n] = type(n, (_PythonQtMixin, c), {"__module__": "qt", "__init__": _no_kwargs_init(c)})
            setattr(qt, n, SUBCLASS[n])
        except (TypeError, RuntimeError):
            pass  # final classes keep the PySide type
    for n in ("QSettings", "QApplication", "QCoreApplication", "QGuiApplication"):
        setattr(qt, n, getattr(QtCore, n, None) or getattr(QtGui, n, None) or getattr(QtWidgets, n))
    return qt


# ---- ctk / qMRML stand-ins (only what the module uses; anything else fails loudly) --------------------------------
class ctkCollapsibleButton(_PythonQtMixin, QtWidgets.QGroupBox):
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setCheckable(True)
        self.toggled.connect(self._toggled)
        self._collapsed = False

    def _toggled(self, on):
        self._collapsed = not on
        for w in self.findChildren(QtWidgets.QWidget):
            w.setVisible(on)
        self.contentsCollapsed.emit(not on)

    @property
    def text(self):
        return self.title

    @text.setter
    def text(self, v):
        self.setTitle(v)

    @property
    def collapsed(self):
        return self._collapsed

    @collapsed.setter
    def collapsed(self, v):
        self.setChecked(not v)


class qMRMLNodeComboBox(_PythonQtMixin, QtWidgets.QComboBox):
    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.nodeTypes = []
        self.addEnabled = self.removeEnabled = self.renameEnabled = False
        self.noneEnabled = False
        self._scene = None
        self._ids = []
        self._tags = []
        self.currentIndexChanged.connect(self._emit)

    def setMRMLScene(self, scene):
        import vtk

        for o, t in self._tags:
            o.RemoveObserver(t)
        self._scene, self._tags = scene, []
        if scene:
            for ev in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
                self._tags.append((scene, scene.AddObserver(ev, lambda *_: self._refresh())))
        self._refresh()

    def mrmlScene(self):
        return self._scene

    def _nodes(self):
        return [] if not self._scene else [n for t in self.nodeTypes for n in self._scene.GetNodesByClass(t)]

    def _refresh(self):
        cur = self.currentNodeID
        self.blockSignals(True)
        self.clear()
        self._ids = []
        if self.noneEnabled:
            self.addItem("None")
            self._ids.append("")
        for n in self._nodes():
            self.addItem(n.GetName())
            self._ids.append(n.GetID())
        self.setCurrentIndex(self._ids.index(cur) if cur in self._ids else (0 if self._ids else -1))
        self.blockSignals(False)
        if self.currentNodeID != cur:
            self._emit()

    def _emit(self, *_):
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(self.currentNodeID)

    @property
    def currentNodeID(self):
        i = self.currentIndex
        return self._ids[i] if 0 <= i < len(self._ids) else ""

    @currentNodeID.setter
    def currentNodeID(self, v):
        self.setCurrentNodeID(v)

    def currentNode(self):
        return self._scene.GetNodeByID(self.currentNodeID) if self._scene and self.currentNodeID else None

    def setCurrentNodeID(self, i):
        self.setCurrentIndex(self._ids.index(i) if i in self._ids else -1)

    def setCurrentNode(self, n):
        self.setCurrentNodeID(n.GetID() if n else "")


class qMRMLWidget(_PythonQtMixin, QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return getattr(self, "_scene", None)


class _UiLoader(QtUiTools.QUiLoader):
    CUSTOM = {}

    def createWidget(self, cls, parent=None, name=""):
        if cls in self.CUSTOM:
            w = self.CUSTOM[cls](parent)
            w.setObjectName(name)
            return w
        if cls in SUBCLASS:
            w = SUBCLASS[cls](parent)
            w.setObjectName(name)
            return w
        return super().createWidget(cls, parent, name)


def loadUI(path):
    """slicer.util.loadUI; also applies the <connections> of the .ui file and list/bool properties of custom widgets."""
    import xml.etree.ElementTree as ET

    loader = _UiLoader()
    f = QtCore.QFile(path)
    if not f.open(QtCore.QIODevice.ReadOnly):
        raise RuntimeError(f"Could not load UI file: {path}")
    w = loader.load(f)
    f.close()
    if w is None:
        raise RuntimeError(loader.errorString())
    root = ET.parse(path).getroot()
    for el in root.iter("widget"):
        if el.get("class") not in _UiLoader.CUSTOM:
            continue
        target = w if w.objectName == el.get("name") else w.findChild(QtCore.QObject, el.get("name"))
        for pr in el.findall("property"):
            v = pr[0]
            name = pr.get("name")
            val = {
                "bool": lambda: v.text == "true",
                "stringlist": lambda: [s.text for s in v.findall("string")],
                "string": lambda: v.text,
                "number": lambda: int(v.text),
            }.get(v.tag, lambda: None)()
            if val is not None and hasattr(type(target), name) or hasattr(target, name):
                try:
                    setattr(target, name, val)
                except (AttributeError, TypeError):
                    pass
    for c in root.iter("connection"):
        s, r = (
            w if w.objectName == c.find(k).text else w.findChild(QtCore.QObject, c.find(k).text)
            for k in ("sender", "receiver")
        )
        sig = c.find("signal").text.split("(")[0]
        slot = c.find("slot").text.split("(")[0]
        if s and r and hasattr(s, sig) and hasattr(r, slot):
            getattr(s, sig).connect(getattr(r, slot))
    return w


def install():
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    qt = make_qt()
    ctk = types.ModuleType("ctk")
    ctk.ctkCollapsibleButton = ctkCollapsibleButton

    def placeholder(
        mod, prefixes
    ):  # classes that are only referenced (isinstance, connectors), never used by the module under test
        def __getattr__(name):
            if name.startswith(prefixes):
                cls = type(name, (_PythonQtMixin, QtWidgets.QWidget), {"__doc__": "placeholder"})
                setattr(mod, name, cls)
                return cls
            raise AttributeError(f"module {mod.__name__!r} has no attribute {name!r}")

        mod.__getattr__ = __getattr__

    placeholder(ctk, ("ctk",))
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
    _UiLoader.CUSTOM = {c.__name__: c for c in (ctkCollapsibleButton, qMRMLNodeComboBox, qMRMLWidget)}
    import slicer

    words = types.ModuleType("slicer.i18n")
    words.tr, words.translate = (lambda text: text), (lambda _context, text: text)
    sys.modules["slicer.i18n"] = slicer.i18n = words
    slicer.util.loadUI = loadUI
    placeholder(slicer, ("qMRML", "qSlicer"))
    for c in (qMRMLNodeComboBox, qMRMLWidget):
        setattr(slicer, c.__name__, c)
    return app, qt
