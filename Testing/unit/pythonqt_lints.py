"""What can be said of the panels' code by reading it: each function gives the lines that PythonQt won't take.

Receivers are typed where the code tells what they are: widgets by their .ui file, others by the Qt class they
are made with, locals by what is assigned to them or by a name that says it. Of untyped ones only what is
wrong on every Qt class is said.
"""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "CT3DAssistant"
UI = ROOT / "Resources" / "UI"
MEMBERS = json.loads(Path(__file__).with_name("qt_members.json").read_text(encoding="utf-8"))
OF_EVERY_OBJECT = {
    *("className", "connect", "delete", "disconnect", "findChild", "findChildren", "inherits", "name"),
    *("blockSignals", "children", "deleteLater", "parent", "property", "setParent", "setProperty"),
}
SIGNATURE = re.compile(r"^\w+\((?:[\w:]+(?:<\w+>)?\*?(?:,[\w:]+(?:<\w+>)?\*?)*)?\)$")
UI_HOLDERS = re.compile(r"^(?:self\.|panel\.|self\.panel\.|self\._panel\.)?_?ui$")
BY_NAME = {  # what a local of this name is
    "bar": "QProgressBar",
    "browser": "QTextBrowser",
    "button": "QPushButton",
    "combo": "QComboBox",
    "cursor": "QTextCursor",
    "document": "QTextDocument",
    "header": "QHeaderView",
    "item": "QTableWidgetItem",
    "label": "QLabel",
    "process": "QProcess",
    "shortcut": "QShortcut",
    "slider": "QSlider",
    "spin": "QDoubleSpinBox",
    "table": "QTableWidget",
    "timer": "QTimer",
}
QT_ROOTS = ("qt", "ctk")


# what Qt's classes have


def bases(kind: str) -> Iterator[str]:
    """A class and what it derives from."""
    while kind in MEMBERS:
        yield kind
        kind = MEMBERS[kind]["base"]


@cache
def has(kind: str, what: str) -> frozenset[str]:
    """Properties, signals or members of a class, inherited ones included."""
    return frozenset(name for base in bases(kind) for name in MEMBERS[base][what])


@cache
def always_properties() -> frozenset[str]:
    """Names that are a property on some Qt class, a plain method on none, and nothing on Python's types."""
    properties = {name for kind in MEMBERS.values() for name in kind["properties"]}
    members = {name for kind in MEMBERS.values() for name in kind["members"]}
    python = {name for kind in (str, bytes, list, dict, set, tuple, Path, re.Match) for name in dir(kind)}
    return frozenset(properties - members - python)


@cache
def qt_names() -> frozenset[str]:
    """Methods that only Qt would have: camelCase names."""
    members = {name for kind in MEMBERS.values() for name in kind["members"]}
    return frozenset(name for name in members if re.match(r"[a-z]+[A-Z]", name))


# .ui files


@cache
def widgets_of(ui_file: str) -> dict[str, str]:
    """Class of each named widget of a .ui file."""
    return widgets_in((UI / ui_file).read_text(encoding="utf-8"))


def widgets_in(text: str) -> dict[str, str]:
    """Class of each named widget, layout and action of a .ui file's text."""
    root = ElementTree.fromstring(text)
    found = {each.get("name"): each.get("class") for each in root.iter("widget")}
    found |= {each.get("name"): each.get("class") for each in root.iter("layout")}
    return found | {each.get("name"): "QAction" for each in root.iter("action")}


def ui_text_faults(text: str) -> list[str]:
    """What is wrong in a .ui file by itself: unknown classes and properties, names, tooltips, tab order."""
    root = ElementTree.fromstring(text)
    names = [each.get("name") for each in root.iter("widget")]
    faults = [f"{name} is there twice" for name in set(names) if names.count(name) > 1]
    for widget in root.iter("widget"):
        faults += _widget_faults(widget)
    for stop in root.iter("tabstop"):
        faults += [] if stop.text in names else [f"tab stop {stop.text} is no widget"]
    every = {*names, *(each.get("name") for each in root.iter("layout"))}
    for link in root.iter("connection"):
        ends = (link.findtext("sender"), link.findtext("receiver"))
        faults += [f"connection with {end}, which is not there" for end in ends if end not in every]
    return faults


CONTROLS = {"QPushButton", "QToolButton", "QCheckBox", "QRadioButton", "QComboBox", "QSlider", "QSpinBox"}
CONTROLS |= {"QDoubleSpinBox", "QLineEdit", "QPlainTextEdit", "ctkPathLineEdit", "qMRMLNodeComboBox"}


def _widget_faults(widget: ElementTree.Element) -> list[str]:
    kind, name = widget.get("class"), widget.get("name")
    if kind not in MEMBERS:
        return [f"{name}: {kind} is not known; it needs a stand-in"]
    given = {each.get("name") for each in widget.findall("property")}
    known = has(kind, "properties") | {"buddy"}  # which Designer makes of setBuddy()
    faults = [f"{name}: {kind} has no property {each}" for each in given - known]
    if kind in CONTROLS and "toolTip" not in given:
        faults.append(f"{name}: has no tool tip")
    return faults


# the code


class Source:
    """One file's code, and what its receivers are.

    Args:
        text: the code.
        widgets: class of each widget that `ui` has in it; empty where there is no `ui`.
    """

    def __init__(self, text: str, widgets: dict[str, str] | None = None):
        self.tree = ast.parse(text)
        self.widgets = widgets or {}
        self.nodes = list(ast.walk(self.tree))
        self.attributes = self._assigned(self.tree, "self.")
        self.scopes = {  # each node's innermost function
            id(node): scope
            for scope in ast.walk(self.tree)
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(scope)
        }
        self._locals: dict[int, dict[str, str]] = {}

    def kind(self, node: ast.expr) -> str:
        """Qt class of an expression; "" where the code doesn't tell."""
        found = self._told(node)
        return found if found in MEMBERS else ""

    def _told(self, node: ast.expr) -> str:
        if isinstance(node, ast.Call):
            made = dotted(node.func)
            return (
                made.rpartition(".")[2] if made.partition(".")[0] in QT_ROOTS and made[3:] in MEMBERS else ""
            )
        name = dotted(node)
        holder, _, last = name.rpartition(".")
        if UI_HOLDERS.match(holder):
            return self.widgets.get(last, "")
        if name in ("self.widget", "panel.widget"):
            return "ctkCollapsibleButton" if self.widgets else ""
        if name.startswith("self."):
            return self.attributes.get(name, "")
        return self._local(node, name) if name and "." not in name else ""

    def _local(self, node: ast.expr, name: str) -> str:
        scope = self.scopes.get(id(node))
        if scope is None:
            return ""
        if id(scope) not in self._locals:
            self._locals[id(scope)] = self._assigned(scope, "")
        return self._locals[id(scope)].get(name) or BY_NAME.get(name, "")

    def _assigned(self, scope: ast.AST, prefix: str) -> dict[str, str]:
        """Classes of names that are assigned once within a scope."""
        found: dict[str, set[str]] = {}
        for target, value in _pairs(scope):
            name = dotted(target)
            if name and (name.startswith(prefix) if prefix else "." not in name):
                found.setdefault(name, set()).add(self._of_value(value))
        return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}

    def _of_value(self, value: ast.expr) -> str:
        if isinstance(value, ast.Call):
            made = dotted(value.func)
            return made[3:] if made.startswith("qt.") and made[3:] in MEMBERS else "?"
        holder, _, last = dotted(value).rpartition(".")
        return self.widgets.get(last, "?") if UI_HOLDERS.match(holder) else "?"


def _pairs(scope: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(target, value) of the assignments in a scope, tuples taken apart; loops count as unknown."""
    unknown = ast.Constant(None)
    for node in ast.walk(scope):
        if isinstance(node, ast.For | ast.comprehension):
            targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
            yield from ((target, unknown) for target in targets)
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Tuple):
                is_tuple = isinstance(node.value, ast.Tuple)
                values = node.value.elts if is_tuple else [unknown] * len(target.elts)
                yield from zip(target.elts, values, strict=True)
            else:
                yield target, node.value


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a chain of names; "" for anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def calls(source: Source) -> Iterator[ast.Call]:
    return (node for node in source.nodes if isinstance(node, ast.Call))


def unknown_widgets(source: Source) -> list[str]:
    """`ui.x` that the .ui file doesn't have, also where its name is put together."""
    faults = []
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and UI_HOLDERS.match(dotted(node.value)):
            faults += [] if node.attr in source.widgets else [f"{node.lineno}: no widget {node.attr}"]
    for node in calls(source):
        if dotted(node.func) == "getattr" and UI_HOLDERS.match(dotted(node.args[0])):
            pattern = _pattern(node.args[1])
            if not any(re.fullmatch(pattern, name) for name in source.widgets):
                faults.append(f"{node.lineno}: no widget like {pattern}")
    return faults


def _pattern(name: ast.expr) -> str:
    """A regular expression for a text that may be put together."""
    if isinstance(name, ast.Constant):
        return re.escape(str(name.value))
    parts = name.values if isinstance(name, ast.JoinedStr) else []
    return (
        "".join(re.escape(each.value) if isinstance(each, ast.Constant) else ".+" for each in parts) or ".+"
    )


def keywords_into_qt(source: Source) -> list[str]:
    """Keyword arguments in what constructs or calls a Qt object."""
    own = {node.name for node in source.nodes if isinstance(node, ast.FunctionDef)}
    faults = []
    for node in calls(source):
        name, last = dotted(node.func), getattr(node.func, "attr", "")
        is_qt = name.partition(".")[0] in QT_ROOTS or name.startswith(("slicer.qMRML", "slicer.qSlicer"))
        is_typed = isinstance(node.func, ast.Attribute) and source.kind(node.func.value)
        if name.startswith("slicer.util."):
            continue  # Python functions
        if node.keywords and (is_qt or is_typed or (last in qt_names() and last not in own)):
            faults.append(f"{node.lineno}: keyword arguments in {ast.unparse(node.func)}(…)")
    return faults


def property_calls(source: Source) -> list[str]:
    """Properties called as if they were methods."""
    faults = []
    for node in calls(source):
        if not isinstance(node.func, ast.Attribute):
            continue
        kind, name = source.kind(node.func.value), node.func.attr
        is_one = name in has(kind, "properties") if kind else name in always_properties()
        is_static = dotted(node.func).startswith(("qt.", "ctk."))
        if is_one and not is_static and dotted(node.func.value) != "self":
            faults.append(f"{node.lineno}: {ast.unparse(node)} calls a property")
    return faults


def unknown_members(source: Source) -> list[str]:
    """Members that a class of Qt, in version 5 or in 6, doesn't have; also new attributes on its objects."""
    faults = []
    for node in source.nodes:
        if not isinstance(node, ast.Attribute):
            continue
        kind = source.kind(node.value)
        name = dotted(node.value)
        if not kind and name.startswith("qt.") and name[3:] in MEMBERS:
            kind = name[3:]
        if kind not in MEMBERS:
            continue
        signals = {each.partition("(")[0] for each in has(kind, "signals")}
        if node.attr not in has(kind, "properties") | has(kind, "members") | signals | OF_EVERY_OBJECT:
            faults.append(f"{node.lineno}: {kind} has no {node.attr}")
    return faults


def unknown_classes(source: Source) -> list[str]:
    """Classes of qt and ctk that aren't in both Qt versions."""
    names = [(node.lineno, dotted(node)) for node in source.nodes if isinstance(node, ast.Attribute)]
    used = [(line, name.split(".")[1]) for line, name in names if name.partition(".")[0] in QT_ROOTS]
    return [
        f"{line}: {name} is not known; see tools/qt_members.py" for line, name in used if name not in MEMBERS
    ]


def instance_checks(source: Source) -> list[str]:
    """isinstance and issubclass against classes of Qt, ctk, or Slicer's widgets."""
    faults = []
    for node in calls(source):
        if dotted(node.func) in ("isinstance", "issubclass") and any(
            map(_is_qt_class, ast.walk(node.args[1]))
        ):
            faults.append(f"{node.lineno}: {ast.unparse(node)}; use inherits()")
    return faults


def _is_qt_class(node: ast.AST) -> bool:
    name = dotted(node)
    return name.startswith(("qt.", "ctk.", "slicer.qMRML", "slicer.qSlicer"))


def declared_signals(source: Source) -> list[str]:
    """qt.Signal and its like."""
    banned = {"Signal", "Slot", "Property", "pyqtSignal", "pyqtSlot", "pyqtProperty", "SIGNAL", "SLOT"}
    return [
        f"{node.lineno}: {dotted(node)}"
        for node in source.nodes
        if isinstance(node, ast.Attribute) and node.attr in banned and dotted(node.value) == "qt"
    ]


def long_enumerators(source: Source) -> list[str]:
    """`qt.Qt.AlignmentFlag.AlignLeft`: only `qt.Qt.AlignLeft` is there."""
    return [
        f"{node.lineno}: {dotted(node)}"
        for node in source.nodes
        if isinstance(node, ast.Attribute) and re.match(r"(qt|ctk)\.\w+\.[A-Z]\w*\.\w+", dotted(node))
    ]


def subclasses(source: Source) -> list[str]:
    """Classes that derive from Qt's, ctk's or Slicer's widgets."""
    return [
        f"{node.lineno}: class {node.name} derives from {dotted(base)}"
        for node in source.nodes
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if _is_qt_class(base)
    ]


def bytes_of_arrays(source: Source) -> list[str]:
    """bytes(x) of what Qt gave; only `.data()` works."""
    given = {dotted(target) for target, value in _pairs(source.tree) if _gives_array(value)}
    faults = []
    for node in calls(source):
        if dotted(node.func) in ("bytes", "bytearray", "memoryview", "len") and len(node.args) == 1:
            (value,) = node.args
            if _gives_array(value) or dotted(value) in given:
                faults.append(f"{node.lineno}: {ast.unparse(node)}; use .data()")
    return faults


def _gives_array(value: ast.expr) -> bool:
    """Whether a call gives a QByteArray."""
    is_method = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
    return (
        is_method
        and re.match(r"(readAll\w*|toUtf8|toLatin1|QByteArray|toBase64)$", value.func.attr) is not None
    )


def signal_strings(source: Source) -> list[str]:
    """Signals that are misspelled, that the class doesn't have, or that aren't given as a signature."""
    faults = []
    for node in calls(source):
        if not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        if name not in ("on", "connect") or not node.args:
            continue
        if name == "connect" and isinstance(node.func, ast.Attribute):
            sender, signal = node.func.value, node.args[0]
            signals = {each.partition("(")[0] for kind in MEMBERS.values() for each in kind["signals"]}
            if isinstance(sender, ast.Attribute) and sender.attr in signals:
                faults.append(f"{node.lineno}: {ast.unparse(node.func)}(…): connect by signature")
                continue
        elif name == "on" and len(node.args) > 1:
            sender, signal = node.args[:2]
        else:
            continue
        faults += _signal_faults(source, node, sender, signal)
    return faults


def _signal_faults(source: Source, node: ast.Call, sender: ast.expr, signal: ast.expr) -> list[str]:
    if not isinstance(signal, ast.Constant) or not isinstance(signal.value, str):
        return []
    if not SIGNATURE.match(signal.value):
        return [f"{node.lineno}: {signal.value!r} is no signature"]
    kind = source.kind(sender)
    if kind in MEMBERS and signal.value not in has(kind, "signals") | {"destroyed()"}:
        return [f"{node.lineno}: {kind} has no signal {signal.value}"]
    return []


def foreign_bindings(source: Source) -> list[str]:
    """Imports of other bindings of Qt than PythonQt's."""
    banned = re.compile(r"(PySide\d?|PyQt\d?|shiboken\d?|qtpy|sip)(\.|$)")
    return [f"{line}: {name}" for line, name in imports(source.tree) if banned.match(name)]


def waiting_windows(source: Source) -> list[str]:
    """Windows that wait for a person, and waits for a process in the thread of the window."""
    banned = re.compile(r"qt\.(QMessageBox|QInputDialog|QDialog|QThread)\b|subprocess\.|time\.sleep$")
    waits = re.compile(r"\.(waitForFinished|waitForStarted|waitForReadyRead|exec_?)$")
    return [
        f"{node.lineno}: {dotted(node.func)}"
        for node in calls(source)
        if banned.match(dotted(node.func)) or waits.search(dotted(node.func))
    ]


def formatted_translations(source: Source) -> list[str]:
    """`_(f"…")`: the translator sees only whole constants."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in calls(source)
        if dotted(node.func) in ("_", "tr", "translate")
        and any(isinstance(a, ast.JoinedStr) for a in node.args)
    ]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, wherever it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


# what importing the module brings


def at_import(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what a file imports while it is imported itself, not within functions."""
    for node in tree.body:
        yield from _outside_functions(node)


def _outside_functions(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imports(node)
    for child in ast.iter_child_nodes(node):
        yield from _outside_functions(child)


def file_of(module: str, code: Path = CODE) -> Path | None:
    """Our file of a dotted module name, or None."""
    path = code.joinpath(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def closure(starts: list[Path], code: Path = CODE) -> dict[Path, Path | None]:
    """Our files that importing some files imports, each with the file that asked for it."""
    asked: dict[Path, Path | None] = dict.fromkeys(starts)
    waiting = list(starts)
    while waiting:
        file = waiting.pop()
        for _line, module in at_import(ast.parse(file.read_text(encoding="utf-8"))):
            found = file_of(module, code)
            if found is not None and found not in asked:
                asked[found] = file
                waiting.append(found)
    return asked
