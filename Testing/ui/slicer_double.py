"""Stand-ins for what the application has and the slicer-core wheel lacks, to set up a scripted module.

Each follows what the genuine one does where a module can notice it: the base classes of scripted modules, the
parameter node wrapper, the application object, the module list, reload, and the Sample Data module. What is
genuine stays so: the scene, its nodes and logics, slicer.util.
"""

import sys
import time
import types
import typing
import unittest
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

CODE = Path(__file__).resolve().parents[2] / "CT3DAssistant"
BASES = "slicer.ScriptedLoadableModule"


class Signals:
    """What PythonQt offers on a QObject: connect by signature; `emit` is for the tests."""

    def __init__(self):
        self._slots: dict[str, list] = {}

    def connect(self, signature, slot):
        self._slots.setdefault(signature, []).append(slot)
        return True

    def disconnect(self, signature, slot):
        self._slots[signature].remove(slot)
        return True

    def emit(self, signature, *args):
        for slot in tuple(self._slots.get(signature, ())):
            slot(*args)


class ModuleManager(Signals):
    """Knows the scripted modules that were loaded here."""

    def module(self, name):
        return Module(name)


class Module:
    """A loaded module; its widget is made when it is first asked for."""

    def __init__(self, name):
        self.name = name

    def widgetRepresentation(self):
        import slicer

        widget = getattr(slicer.modules, f"{self.name}Widget", None) or open_widget(self.name)
        return qSlicerScriptedLoadableModuleWidget(widget)


class qSlicerScriptedLoadableModuleWidget:  # noqa: N801, as the genuine one is called
    """The application's side of a scripted widget."""

    def __init__(self, widget):
        self._widget = widget

    def self(self):
        return self._widget


class Application(Signals):
    """slicer.app: the event loop's application with the few things more that modules ask for."""

    def __init__(self, qt_application, session, settings):
        super().__init__()
        self._qt, self._session, self._settings = qt_application, session, settings
        self._modules = ModuleManager()

    def processEvents(self, *flags):
        self._qt.processEvents(*flags)

    def applicationLogic(self):
        return self._session.application

    def userSettings(self):
        return self._settings

    def moduleManager(self):
        return self._modules

    def layoutManager(self):
        return None  # as where there is no main window

    def topLevelWidgets(self):
        return ()

    def startupEnvironment(self):
        import qt

        return qt.QProcessEnvironment.systemEnvironment()

    def testingEnabled(self):
        return True

    def wait_for_processes(self, seconds=3.0):
        """Turn the event loop until every process that was ended here has been reaped; for the tests."""
        deadline = time.monotonic() + seconds
        while _running() and time.monotonic() < deadline:
            self._qt.processEvents()
            time.sleep(0.005)


class ScriptedLoadableModule:
    """The module's description; `parent` takes what it says."""

    def __init__(self, parent):
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    """The module's panel; without a parent it makes one, as the application does, and sets itself up."""

    def __init__(self, parent=None):
        import qt
        import slicer

        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        if parent is None:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        manager = slicer.app.moduleManager()
        manager.connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self):
        pass

    def cleanup(self):
        pass

    def onReload(self):
        reload_module(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, name):
        if name == self.moduleName:
            self.cleanup()


class ScriptedLoadableModuleLogic:
    """Gives the scene's one parameter node of the module."""

    def __init__(self, parent=None):  # noqa: ARG002
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        import slicer

        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            return slicer.mrmlScene.AddNode(self.createParameterNode())
        if node.GetAttribute("ModuleName") != self.moduleName:
            node.SetAttribute("ModuleName", self.moduleName)  # closing a scene takes it away
        return node

    def createParameterNode(self):
        import slicer

        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The module's own test; `delayDisplay` shows nothing here."""

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        pass

    def runTest(self):
        pass


def _running():
    """Processes of the application object that have not ended."""
    from PySide6.QtCore import QCoreApplication, QProcess

    every = QCoreApplication.instance().findChildren(QProcess)
    return [process for process in every if process.state() != QProcess.ProcessState.NotRunning]


def parameterNodeWrapper(kind):
    """Makes each annotated attribute a parameter or a node reference of a vtkMRMLScriptedModuleNode.

    Like the genuine one it writes defaults where a parameter is absent, keeps what it has read until the node
    is modified, and refuses a value of another type.
    """
    fields = typing.get_type_hints(kind)
    defaults = {name: getattr(kind, name, "" if of is str else None) for name, of in fields.items()}

    def __init__(self, parameterNode, prefix=None):
        self.parameterNode = parameterNode
        self._read = {}
        for name in fields:
            if not parameterNode.HasParameter(name):
                _write(parameterNode, fields, name, defaults[name])
        _read_all(self, parameterNode, fields, defaults)
        parameterNode.AddObserver(
            "ModifiedEvent", lambda *_: _read_all(self, parameterNode, fields, defaults)
        )

    kind.__init__ = __init__
    for name in fields:
        setattr(kind, name, property(_getter(name), _setter(fields, name)))
    return kind


def _getter(name):
    return lambda self: self._read[name]


def _setter(fields, name):
    def write(self, value):
        _write(self.parameterNode, fields, name, value)

    return write


def _read_all(wrapper, node, fields, defaults):
    for name, of in fields.items():
        if not node.HasParameter(name):
            _write(node, fields, name, defaults[name])
        wrapper._read[name] = node.GetParameter(name) if of is str else node.GetNodeReference(name)


def _write(node, fields, name, value):
    of = fields[name]
    if not isinstance(value, of) and (of is str or value is not None):
        raise TypeError(f"{name} takes {of.__name__}, not {type(value).__name__}")
    if of is str:
        node.SetParameter(name, value)
        return
    was_modifying = node.StartModify()
    node.SetParameter(name, "")
    node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
    node.EndModify(was_modifying)


class SampleDataSource:
    """One entry of the Sample Data module."""

    def __init__(self, **told):
        self.__dict__ |= told


class SampleDataLogic:
    """Keeps what modules register, by category."""

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", **told):
        import slicer

        sources = vars(slicer.modules).setdefault("sampleDataSources", {})
        sources.setdefault(category, []).append(SampleDataSource(**told))

    @staticmethod
    def sampleDataSourcesByCategory(category):
        import slicer

        return vars(slicer.modules).get("sampleDataSources", {}).get(category, [])


class ModuleParent:
    """What a module's description is written onto; `path` is the module's file."""

    def __init__(self, path):
        self.path = str(path)


def install(qt_application, settings) -> Any:
    """Puts the stand-ins into `slicer`; gives the session whose scene is slicer.mrmlScene."""
    import slicer

    from CT3DAssistantLib.headless import boot

    session = boot()
    base = types.ModuleType(BASES)
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(base, kind.__name__, kind)
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper = parameterNodeWrapper
    samples = types.ModuleType("SampleData")
    samples.SampleDataLogic = SampleDataLogic
    sys.modules |= {BASES: base, wrapper.__name__: wrapper, "SampleData": samples}
    slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper = base, wrapper
    slicer.mrmlScene = session.scene
    slicer.qSlicerScriptedLoadableModuleWidget = qSlicerScriptedLoadableModuleWidget
    slicer.modules = types.SimpleNamespace()
    slicer.app = Application(qt_application, session, settings)
    settings.setValue("CT3DAssistant/recoveryFolder", str(Path(session.cache.name) / "recovery"))
    return session


def uninstall(session) -> None:
    """Takes them out again: other tests find the bare wheel."""
    import slicer

    slicer.app.emit("aboutToQuit()")
    slicer.app.moduleManager().emit("moduleAboutToBeUnloaded(QString)", "CT3DAssistant")
    slicer.app.wait_for_processes()
    for name in ("app", "modules", "mrmlScene", "ScriptedLoadableModule", "parameterNodeWrapper"):
        delattr(slicer, name)
    for name in (BASES, "slicer.parameterNodeWrapper", "SampleData", "CT3DAssistant"):
        sys.modules.pop(name, None)
    sys.modules.pop("CT3DAssistantLib.parameter_node", None)
    session.close()


def load_module(name="CT3DAssistant") -> Any:
    """Loads a scripted module as the application does at its start; gives its Python module."""
    import slicer

    module = _execute(name)
    getattr(module, name)(ModuleParent(CODE / f"{name}.py"))
    slicer.app.emit("startupCompleted()")
    return module


def open_widget(name="CT3DAssistant") -> Any:
    """The module's widget, set up as when a person first chooses the module."""
    import slicer

    widget = getattr(sys.modules[name], f"{name}Widget")()
    setattr(slicer.modules, f"{name}Widget", widget)
    return widget


def reload_module(name) -> Any:
    """What slicer.util.reloadScriptedModule does: new code, old widget cleaned up, new widget set up."""
    import slicer

    module = _execute(name)
    old = getattr(slicer.modules, f"{name}Widget")
    old.cleanup()
    manager = slicer.app.moduleManager()
    manager.disconnect("moduleAboutToBeUnloaded(QString)", old._onModuleAboutToBeUnloaded)
    old.parent.deleteLater()
    open_widget(name)
    return module


def our_modules() -> dict[str, Any]:
    """What is loaded of the project's code, by name."""
    ours = ("ct3d", "CT3DAssistantLib")
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ours}


def _execute(name):
    spec = spec_from_file_location(name, CODE / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
