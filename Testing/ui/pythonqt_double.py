"""Qt with the calling conventions of PythonQt, over PySide6: panels run without the application.

`install` puts `qt`, `ctk` and what Slicer adds to `slicer` for widgets into `sys.modules`. Every object is
wrapped, whoever made it, so that the rules hold for what a .ui file or Qt itself creates, too:

- a Qt property is an attribute, and calling it a TypeError; setters and is… are methods;
- `connect("signal(type)", f)` and `signal.connect(f)`; a signal that doesn't exist prints and gives False;
- no keyword arguments; no new attributes, except on Python subclasses; arguments must match, numpy's don't;
- classes are strangers to each other: only `inherits` knows that a button is a widget;
- lists come out as tuples, enumerators are ints, a QByteArray shows its bytes by `data()` only.

What is stricter here than in PythonQt is so on purpose. A window that would wait for a person is an error.
"""

import atexit
import inspect
import shutil
import sys
import tempfile
import types
import weakref
from collections.abc import Callable
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import shiboken6
from PySide6 import QtCore, QtGui, QtNetwork, QtPrintSupport, QtSvg, QtUiTools, QtWidgets
from pythonqt_match import best_match, enumerations, enumerators, int_type, is_offered
from ui_loader import Loader

MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtPrintSupport, QtSvg, QtUiTools)
SEALED = (
    "ctk",
    "qMRML",
    "qSlicer",
    "QUiLoader",
)  # a Python subclass of these is of no use in the application
WAITS = {  # by class, what opens a window and waits for a person
    "QDialog": {"exec"},
    "QMenu": {"exec"},
    "QMessageBox": {"about", "aboutQt", "critical", "information", "question", "warning"},
    "QInputDialog": {"getDouble", "getInt", "getItem", "getMultiLineText", "getText"},
    "QColorDialog": {"getColor"},
    "QFontDialog": {"getFont"},
    "QFileDialog": {"getExistingDirectory", "getOpenFileName", "getOpenFileNames", "getSaveFileName"},
}
WRAPPERS: dict[type, "ClassWrapper"] = {}  # by PySide class
ALIVE: "weakref.WeakValueDictionary[int, Wrapper]" = weakref.WeakValueDictionary()  # QObjects, by address
HANDLERS: dict[int, list[tuple[str, Callable, Any]]] = {}  # connections of a QObject, by address


# classes: qt.QPushButton


class ClassWrapper(type):
    """What `qt.QPushButton` is: makes objects, gives static methods and enumerators."""

    real: type

    def __new__(mcs, name: str, bases: tuple, members: dict) -> "ClassWrapper":
        parents = [base.__name__ for base in bases if base.__module__ in ("qt", "ctk", "slicer")]
        if "real" not in members and any(parent.startswith(SEALED) for parent in parents):
            raise TypeError(f"{parents[0]} can't be subclassed in Python: its virtual methods are not called")
        return super().__new__(mcs, name, bases, members)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kinds = enumerations(cls.real)
        if name in kinds:
            return int_type(kinds[name])
        if name in (values := enumerators(cls.real)) and is_offered(cls.real, name):
            return values[name]
        found = getattr(cls.real, name, None)
        if isinstance(found, types.BuiltinFunctionType) and is_offered(cls.real, name):
            return partial(call, found, cls.real, name)
        raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")

    def __setattr__(cls, name: str, value: Any) -> None:
        if cls.__module__ in ("qt", "ctk") and not inspect.isroutine(value):
            raise AttributeError(f"'{name}' can't be set on {cls.__name__}")
        super().__setattr__(name, value)  # a function: a test answers a dialog with it


class Wrapper(metaclass=ClassWrapper):
    """An object of Qt as PythonQt shows it."""

    __slots__ = ("__weakref__", "_it")
    real = object

    def __init__(self, *args: Any, **named: Any):
        real = type(self).real if is_plain(type(self)) else shell_of(type(self))
        kind = type(self).__name__
        if named:
            raise ValueError(
                f"Called {kind} with keyword arguments, but called slot does not support kwargs."
            )
        made = real(*matched(type(self).real, kind, args))
        object.__setattr__(self, "_it", made)
        if isinstance(made, QtCore.QObject):
            ALIVE[address(made)] = self
        if not is_plain(type(self)):
            made.shell = self

    def className(self) -> str:
        return type(self).__name__

    def inherits(self, name: str) -> bool:
        return name in (each.__name__ for each in type(self._it).__mro__)

    def delete(self) -> None:
        shiboken6.delete(self._it)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        it = self._it
        if not shiboken6.isValid(it):
            kind = type(self).__name__
            raise ValueError(f"Trying to read property '{name}' from a destroyed {kind} object")
        is_object = isinstance(it, QtCore.QObject)
        if is_object and name in (known := properties(type(it))):
            return wrap(it.property(known[name].name()))
        if is_object and name in OBJECT_METHODS:
            return partial(OBJECT_METHODS[name], self)
        if is_object and name in signal_names(type(it)):
            return Signal(self, name)
        return method(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        it, kind = self._it, type(self)
        if isinstance(it, QtCore.QObject) and name in (known := properties(type(it))):
            write(it, known[name], value)
        elif is_plain(kind):
            raise AttributeError(
                f"'{name}' does not exist on {kind.__name__} and creating new attributes on C++ objects "
                "is not allowed"
            )
        else:
            object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        """Whether there is something behind it; of what can be null, invalid or empty: that it isn't."""
        if not shiboken6.isValid(self._it):
            return False
        for name, is_something in (("isNull", False), ("isValid", True), ("isEmpty", False)):
            if hasattr(self._it, name):
                return getattr(self._it, name)() is is_something
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wrapper):
            return False
        if isinstance(self._it, QtCore.QObject) or isinstance(other._it, QtCore.QObject):
            return self._it is other._it
        return type(self._it) is type(other._it) and bool(self._it == other._it)

    def __hash__(self) -> int:
        return address(self._it)

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({type(self).__name__} at: {address(self._it):#x})"


def is_plain(kind: type) -> bool:
    """Whether this is Qt's own class, not a Python subclass of it."""
    return "real" in vars(kind)


def make_wrapper(real: type, module: str, name: str = "") -> ClassWrapper:
    """The class that stands for a PySide class."""
    members = {"real": real, "__module__": module, "__slots__": ()}
    made = ClassWrapper(name or real.__name__, (Wrapper,), members)
    WRAPPERS.setdefault(real, made)
    return made


@cache
def shell_of(kind: type) -> type:
    """The PySide class behind a Python subclass: hands Qt's virtual calls on to it."""
    names = {name for each in kind.__mro__ if each.__module__ != "qt" for name in vars(each)}
    known = {name for name in names if inspect.ismethoddescriptor(getattr(kind.real, name, None))}

    def forward(name: str) -> Callable[..., Any]:
        def forwarded(it: Any, *args: Any) -> Any:
            shell = vars(it).get("shell")
            if shell is None:
                return getattr(kind.real, name)(it, *args)
            return unwrap(getattr(shell, name)(*map(wrap, args)))

        return forwarded

    own = {name for name in known if not name.startswith("__") and name not in vars(Wrapper)}
    return type(kind.__name__, (kind.real,), {name: forward(name) for name in own})


# values: on the way in and out


def address(it: Any) -> int:
    """Where the C++ object lies."""
    return shiboken6.getCppPointer(it)[0] if shiboken6.isValid(it) else id(it)


def wrap(value: Any) -> Any:
    """What comes out of Qt, as PythonQt gives it."""
    if isinstance(value, Enum):
        return int(value.value)
    if isinstance(value, list | tuple):
        return tuple(map(wrap, value))
    if isinstance(value, dict):
        return {key: wrap(each) for key, each in value.items()}
    if not isinstance(value, shiboken6.Shiboken.Object):
        return value
    is_object = isinstance(value, QtCore.QObject)
    if is_object and (known := ALIVE.get(address(value))) is not None and known._it is value:
        return known
    if is_object and (shell := vars(value).get("shell") if hasattr(value, "__dict__") else None):
        return shell
    kind = next((WRAPPERS[each] for each in type(value).__mro__ if each in WRAPPERS), None)
    if kind is None:
        raise TypeError(f"{type(value).__name__} is not known to PythonQt")
    made = kind.__new__(kind)
    object.__setattr__(made, "_it", value)
    if is_object:
        ALIVE[address(value)] = made
    return made


def unwrap(value: Any) -> Any:
    """What goes into Qt: wrapped objects laid bare, whatever PythonQt can't take refused."""
    if isinstance(value, np.generic | np.ndarray):
        raise TypeError(f"PythonQt takes no {type(value).__name__}; convert it with int() or float()")
    if isinstance(value, Wrapper):
        if not shiboken6.isValid(value._it):
            raise ValueError(f"Trying to use a destroyed {type(value).__name__} object")
        return value._it
    if isinstance(value, ClassWrapper):
        return value.real
    if isinstance(value, list | tuple):
        return [unwrap(each) for each in value]
    if isinstance(value, dict):
        return {key: unwrap(each) for key, each in value.items()}
    return handler(value) if inspect.isroutine(value) or isinstance(value, partial) else value


# properties


@cache
def properties(kind: type) -> dict[str, QtCore.QMetaProperty]:
    """Properties of a PySide class by name; `name` is PythonQt's alias of `objectName`."""
    meta = kind.staticMetaObject
    every = [meta.property(n) for n in range(meta.propertyCount())]
    known = {each.name(): each for each in every}
    return known | {"name": known["objectName"]}


def write(it: QtCore.QObject, prop: QtCore.QMetaProperty, value: Any) -> None:
    """Set a property; only a value of its own type will do."""
    if not prop.isWritable():
        raise AttributeError(f"Property '{prop.name()}' of {type(it).__name__} object is not writable")
    if not suits(prop, value) or not prop.write(it, int(value) if prop.isEnumType() else unwrap(value)):
        raise AttributeError(
            f"Property '{prop.name()}' of type '{prop.typeName()}' does not accept an object of type "
            f"{type(value).__name__} ({value!r})"
        )


def suits(prop: QtCore.QMetaProperty, value: Any) -> bool:
    """Whether a value is of a property's type."""
    if isinstance(value, np.generic | np.ndarray):
        return False
    if prop.isEnumType():
        return isinstance(value, int) and not isinstance(value, bool)
    kinds = {
        "bool": (bool,),
        "int": (int,),
        "uint": (int,),
        "double": (int, float),
        "qreal": (int, float),
        "QString": (str,),
        "QStringList": (list, tuple),
        "QByteArray": (bytes, Wrapper),
        "QVariant": (object,),
    }
    wanted = kinds.get(prop.typeName())
    if wanted is None:
        return isinstance(value, Wrapper) and value.inherits(prop.typeName().rstrip("*"))
    if prop.typeName() != "bool" and isinstance(value, bool) and object not in wanted:
        return False
    return isinstance(value, wanted)


# methods


def method(wrapper: Wrapper, name: str) -> Any:
    """A method, or an enumerator, of an object."""
    real, kind = type(wrapper).real, type(wrapper).__name__
    if name in (values := enumerators(real)) and is_offered(real, name):
        return values[name]
    plain = name.removesuffix("_")  # exec_ finds exec
    plain = "print_" if plain == "print" else plain  # PySide's word for it
    found = getattr(real, plain, None)
    if not callable(found) or isinstance(found, type) or not is_offered(real, plain):
        raise AttributeError(f"{kind} has no attribute named '{name}'")
    bound = getattr(wrapper._it, plain) if inspect.isbuiltin(found) else found.__get__(wrapper._it)
    return partial(call, bound, real, plain, of=found)


def call(
    function: Callable, kind: type, name: str, *args: Any, of: Callable | None = None, **named: Any
) -> Any:
    """Call into Qt: find the overload that the arguments match, and wrap what it gives."""
    title = f"{kind.__name__}.{name}"
    if named:
        raise ValueError(f"Called {title} with keyword arguments, but called slot does not support kwargs.")
    if any(name in WAITS.get(parent.__name__, ()) for parent in kind.__mro__):
        raise RuntimeError(f"{title} would wait for a person; let the test answer in its place")
    return wrap(function(*matched(of or function, title, args)))


def matched(function: Callable, title: str, args: tuple) -> list:
    """The arguments as the best overload takes them."""
    taken = best_match(function, [unwrap(each) for each in args], args)
    if taken is None:
        told = ", ".join(type(each).__name__ for each in args)
        raise ValueError(f"Could not find matching overload for given arguments of {title}: ({told})")
    return taken


# signals


class Signal:
    """`button.clicked`: connects, disconnects, emits. The first overload of the name, as PythonQt has it."""

    def __init__(self, wrapper: Wrapper, name: str):
        self._wrapper, self._name = wrapper, name

    def connect(self, slot: Callable) -> bool:
        return connect(self._wrapper, self._signature(), slot)

    def disconnect(self, *slot: Callable) -> bool:
        return disconnect(self._wrapper, self._signature(), *slot)

    def emit(self, *args: Any) -> None:
        it = self._wrapper._it
        signature = signal_names(type(it))[self._name][0]
        chosen = next(
            (each for each in signal_names(type(it))[self._name] if arity(each) == len(args)), signature
        )
        QtCore.QObject.emit(it, QtCore.SIGNAL(chosen), *map(unwrap, args))

    __call__ = emit

    def _signature(self) -> str:
        return signal_names(type(self._wrapper._it))[self._name][0]


def arity(signature: str) -> int:
    """How many arguments a signal has."""
    inside = signature.partition("(")[2].rstrip(")")
    return len(inside.split(",")) if inside else 0


@cache
def signal_names(kind: type) -> dict[str, list[str]]:
    """Signatures of a PySide class's signals by name, as declared."""
    meta, names = kind.staticMetaObject, {}
    for n in range(meta.methodCount()):
        each = meta.method(n)
        if each.methodType() == QtCore.QMetaMethod.MethodType.Signal:
            names.setdefault(each.name().data().decode(), []).append(each.methodSignature().data().decode())
    return {name: signatures for name, signatures in names.items() if is_offered(kind, name)}


def signature_of(wrapper: Wrapper, signal: str) -> str | None:
    """PySide's signature for a C++ one, or None where the object has no such signal."""
    aliases = getattr(type(wrapper._it), "SIGNATURES", {})
    normal = QtCore.QMetaObject.normalizedSignature(signal).data().decode()
    normal = aliases.get(normal, normal)
    known = signal_names(type(wrapper._it)).get(normal.partition("(")[0], ())
    return normal if normal in known else None


def handler(slot: Callable) -> Callable[..., None]:
    """A slot as Qt calls it: arguments wrapped, and no more of them than a Python function takes."""
    if isinstance(slot, Wrapper) or not callable(slot):
        raise TypeError(f"{slot!r} can't be called")
    most = most_arguments(slot)

    def handle(*args: Any) -> Any:
        return slot(*map(wrap, args[:most]))

    return handle


def most_arguments(slot: Callable) -> int | None:
    """Arguments that a plain function or method has; None where it takes any, or isn't one."""
    function = slot.__func__ if inspect.ismethod(slot) else slot
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - inspect.ismethod(slot)


def connect(wrapper: Wrapper, signal: str, slot: Callable, *more: Any) -> bool:
    """Connect a signal, by its C++ signature, to a Python callable."""
    if more or not isinstance(signal, str):
        raise TypeError("connect here takes a signature and a callable")
    signature = signature_of(wrapper, signal)
    if signature is None:
        kind = type(wrapper).__name__
        sys.stderr.write(f"QObject::connect: No such signal {kind}::{signal}\n")
        return False
    it = wrapper._it
    place = address(it)
    if place not in HANDLERS:
        HANDLERS[place] = []
        it.destroyed.connect(lambda *_: HANDLERS.pop(place, None))
    made = QtCore.QObject.connect(it, QtCore.SIGNAL(signature), handler(slot))
    HANDLERS[place].append((signature, slot, made))
    return bool(made)


def disconnect(wrapper: Wrapper, signal: str, *slot: Callable) -> bool:
    """Undo `connect`; without a slot, for all slots of the signal."""
    known = HANDLERS.get(address(wrapper._it), [])
    signature = signature_of(wrapper, signal)
    gone = [each for each in known if each[0] == signature and (not slot or each[1] == slot[0])]
    for each in gone:
        known.remove(each)
        QtCore.QObject.disconnect(each[2])
    return bool(gone)


def find_children(wrapper: Wrapper, kind: ClassWrapper, name: str = "") -> tuple:
    """Descendants of a class, by name where one is given."""
    found = wrapper._it.findChildren(kind.real, name) if name else wrapper._it.findChildren(kind.real)
    return wrap(found)


def find_child(wrapper: Wrapper, kind: ClassWrapper, name: str = "") -> Any:
    """The first of `find_children`, or None."""
    return next(iter(find_children(wrapper, kind, name)), None)


def _no_keywords(function: Callable) -> Callable:
    def positional(*args: Any, **named: Any) -> Any:
        if named:
            raise ValueError(
                f"Called {function.__name__} with keyword arguments, but called slot does not support kwargs."
            )
        return function(*args)

    return positional


OBJECT_METHODS = {
    "connect": _no_keywords(connect),
    "disconnect": _no_keywords(disconnect),
    "findChild": _no_keywords(find_child),
    "findChildren": _no_keywords(find_children),
}


# modules: qt, ctk, and what Slicer adds


def make_qt() -> types.ModuleType:
    """The module `qt`."""
    qt = types.ModuleType("qt")
    for module in MODULES:
        for name in dir(module):  # PySide makes a class when it is asked for
            real = getattr(module, name)
            if isinstance(real, type) and issubclass(real, shiboken6.Shiboken.Object) and name[0] == "Q":
                setattr(qt, name, make_wrapper(real, "qt"))
    qt.Qt = make_wrapper(QtCore.Qt, "qt")
    qt.QUiLoader = make_wrapper(Loader, "qt", "QUiLoader")
    return qt


def make_ctk(stand_ins: dict[str, ClassWrapper]) -> types.ModuleType:
    """The module `ctk`: the stand-ins only; everything else is missing, loudly."""
    ctk = types.ModuleType("ctk")
    for name, kind in stand_ins.items():
        if name.startswith("ctk"):
            setattr(ctk, name, kind)
    return ctk


def keep_settings_apart() -> None:
    """User settings go to a folder that is removed at exit."""
    folder = tempfile.mkdtemp(prefix="settings-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for form in (QtCore.QSettings.Format.NativeFormat, QtCore.QSettings.Format.IniFormat):
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(form, scope, str(Path(folder)))


def install() -> tuple[Any, types.ModuleType]:
    """(application, qt); `import qt, ctk` work from then on. Called again, it gives the same."""
    if "qt" in sys.modules:
        return sys.modules["qt"].QApplication.instance(), sys.modules["qt"]
    import slicer

    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    application.setOrganizationName("CT3DAssistant tests")
    keep_settings_apart()
    sys.modules["qt"] = qt = make_qt()
    modules = {name: "ctk" if name.startswith("ctk") else "slicer" for name in Loader.stand_ins}
    wrapped = {name: make_wrapper(real, modules[name]) for name, real in Loader.stand_ins.items()}
    sys.modules["ctk"] = make_ctk(wrapped)
    for name, kind in wrapped.items():
        if not name.startswith("ctk"):
            setattr(slicer, name, kind)
    words = types.ModuleType("slicer.i18n")
    words.tr, words.translate = (lambda text: text), (lambda _context, text: text)
    sys.modules["slicer.i18n"] = slicer.i18n = words
    return wrap(application), qt
