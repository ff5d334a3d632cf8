"""The panels' code, read for what PythonQt won't take; and each of these lints, tripped by a planted line."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest
import pythonqt_lints as lints

CODE, UI = lints.CODE, lints.UI
MAY_KNOW_QT = ("CT3DAssistant.py", "CT3DAssistantLib/panels/", "CT3DAssistantLib/selftest/")
MAY_KNOW_QT += tuple(f"CT3DAssistantLib/{name}.py" for name in ("transport_qt", "settings", "parameter_node"))
HOST = (*MAY_KNOW_QT, "CT3DAssistantLib/application.py", "CT3DAssistantLib/sampledata.py")
FILES = sorted(each for each in CODE.rglob("*.py") if each.relative_to(CODE).as_posix().startswith(HOST))
UI_FILES = sorted(file.name for file in UI.glob("*.ui"))
EVERY_PANEL = "panel.py"  # the base class: its `ui` is that of each
MAY_IMPORT = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "numpy", "SimpleITK", "ct3d", "CT3DAssistantLib"}
THREADS = {"threading", "concurrent", "multiprocessing", "asyncio", "_thread"}
MAY_THREAD = {"ct3d/client/transport.py"}  # serves the command line; panels talk over QProcess
MAY_WAIT = ("CT3DAssistantLib/transport_qt.py", "CT3DAssistantLib/selftest/")  # scripts and tests ask it to
LINTS = (
    lints.keywords_into_qt,
    lints.property_calls,
    lints.unknown_members,
    lints.unknown_classes,
    lints.instance_checks,
    lints.declared_signals,
    lints.long_enumerators,
    lints.subclasses,
    lints.bytes_of_arrays,
    lints.signal_strings,
    lints.foreign_bindings,
    lints.waiting_windows,
    lints.formatted_translations,
)


def name_of(file: Path) -> str:
    return file.relative_to(CODE).as_posix()


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def ui_named_in(file: Path) -> frozenset[str]:
    """.ui files that a file of code names."""
    texts = (node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant))
    return frozenset(
        text for text in texts if isinstance(text, str) and text.endswith(".ui") and text != ".ui"
    )


@cache
def widgets_for(file: Path) -> dict[str, str]:
    """Widgets that `ui` may have in a file: of the .ui it names, else of the panels that use it."""
    own = ui_named_in(file)
    if own:
        return {name: kind for each in own for name, kind in lints.widgets_of(each).items()}
    module = f"CT3DAssistantLib.panels.{file.stem}"
    users = [
        other
        for other in FILES
        if other != file and any(name == module for _line, name in lints.imports(tree(other)))
    ]
    return {name: kind for user in users for name, kind in widgets_for(user).items()}


@cache
def source(file: Path) -> lints.Source:
    return lints.Source(file.read_text(encoding="utf-8"), widgets_for(file))


# the panels' code


@pytest.mark.parametrize("file", FILES, ids=name_of)
@pytest.mark.parametrize("lint", LINTS, ids=lambda lint: lint.__name__)
def test_the_panels_code_is_right_in_pythonqt(lint, file):
    may = lint is lints.waiting_windows and name_of(file).startswith(MAY_WAIT)
    assert may or lint(source(file)) == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_widget_that_code_names_is_in_its_ui_file(file):
    if file.parent.name == "panels" and file.name != EVERY_PANEL:
        assert lints.unknown_widgets(source(file)) == []


def test_only_the_window_and_what_stands_by_it_knows_qt():
    for file in CODE.rglob("*.py"):
        knows = {name.partition(".")[0] for _line, name in lints.imports(tree(file))} & {
            "qt",
            "ctk",
            "PythonQt",
        }
        assert not knows or name_of(file).startswith(MAY_KNOW_QT), f"{name_of(file)} imports {knows}"


@pytest.mark.parametrize("ui_file", UI_FILES)
def test_a_ui_file_is_right_in_itself(ui_file):
    assert lints.ui_text_faults((UI / ui_file).read_text(encoding="utf-8")) == []


def test_every_ui_file_is_named_by_a_panel_or_the_window_and_is_there():
    named = set().union(*map(ui_named_in, FILES))
    assert named == set(UI_FILES)


# what the application imports with the module


def test_the_module_imports_only_what_the_application_brings():
    for file, asked_by in lints.closure(FILES).items():
        for line, module in lints.at_import(tree(file)):
            root = module.partition(".")[0]
            because = f", asked for by {name_of(asked_by)}" if asked_by else ""
            assert root in MAY_IMPORT | set(sys.stdlib_module_names), (
                f"{name_of(file)}:{line} imports {module} with the module{because}; move it into the function"
            )


def test_no_python_thread_comes_with_the_module():
    for file in lints.closure(FILES):
        brought = {module.partition(".")[0] for _line, module in lints.at_import(tree(file))} & THREADS
        assert not brought or name_of(file) in MAY_THREAD, f"{name_of(file)} imports {brought}"


# the lints themselves

WIDGETS = {
    "titleLabel": "QLabel",
    "sendButton": "QPushButton",
    "queueTable": "QTableWidget",
    "volumeSelector": "qMRMLNodeComboBox",
    "cardCombo": "QComboBox",
}
BAD = (
    (lints.unknown_widgets, "self.ui.sentButton.enabled = True"),
    (lints.unknown_widgets, "def f(panel, name):\n    return getattr(panel.ui, f'{name}Knob')"),
    (lints.keywords_into_qt, "label = qt.QLabel(text='a')"),
    (lints.keywords_into_qt, "node = slicer.qMRMLNodeComboBox(parent=None)"),
    (lints.keywords_into_qt, "self.ui.queueTable.setItem(0, 0, item=x)"),
    (lints.keywords_into_qt, "def f(thing):\n    thing.setVisible(visible=True)"),
    (lints.property_calls, "self.ui.titleLabel.text()"),
    (lints.property_calls, "ui.cardCombo.count()"),
    (lints.property_calls, "ui.cardCombo.currentIndex()"),
    (lints.property_calls, "ui.queueTable.rowCount()"),
    (lints.property_calls, "def f(thing):\n    return thing.plainText()"),
    (lints.property_calls, "def f():\n    bar = qt.QProgressBar()\n    return bar.value()"),
    (lints.property_calls, "def f(self):\n    combo = self.ui.cardCombo\n    return combo.currentText()"),
    (
        lints.property_calls,
        "class A:\n    def a(self):\n        self.t = qt.QTimer()\n        self.t.interval()",
    ),
    (lints.property_calls, "ui.volumeSelector.currentNodeID()"),
    (lints.unknown_members, "ui.titleLabel.region = 'liver'"),
    (lints.unknown_members, "ui.sendButton.checkStateChanged"),
    (lints.unknown_members, "ui.volumeSelector.currentIndex"),
    (lints.unknown_members, "qt.Qt.AlignSideways"),
    (lints.unknown_classes, "qt.QKeyCombination()"),
    (lints.unknown_classes, "ctk.ctkSliderWidget()"),
    (lints.instance_checks, "isinstance(w, qt.QWidget)"),
    (lints.instance_checks, "isinstance(w, (str, ctk.ctkCollapsibleButton))"),
    (lints.instance_checks, "issubclass(w, slicer.qMRMLWidget)"),
    (lints.declared_signals, "class A:\n    changed = qt.Signal(str)"),
    (lints.declared_signals, "@qt.Slot()\ndef f(): ..."),
    (lints.long_enumerators, "qt.Qt.AlignmentFlag.AlignLeft"),
    (lints.subclasses, "class A(ctk.ctkCollapsibleButton): ..."),
    (lints.subclasses, "class A(slicer.qMRMLWidget): ..."),
    (lints.subclasses, "class A(qt.QWidget): ..."),
    (lints.bytes_of_arrays, "bytes(process.readAllStandardOutput())"),
    (lints.bytes_of_arrays, "def f(p):\n    x = p.readAll()\n    return bytes(x)"),
    (lints.signal_strings, "self.on(self.ui.sendButton, 'clicked', f)"),
    (lints.signal_strings, "self.on(self.ui.sendButton, 'clicked(const bool &)', f)"),
    (lints.signal_strings, "self.on(self.ui.sendButton, 'clicked(int)', f)"),
    (lints.signal_strings, "panel.on(ui.volumeSelector, 'currentNodeChanged(vtkObject*)', f)"),
    (lints.signal_strings, "ui.sendButton.connect('activated()', f)"),
    (lints.signal_strings, "ui.sendButton.clicked.connect(f)"),
    (lints.foreign_bindings, "from PySide6.QtCore import Qt"),
    (lints.foreign_bindings, "def f():\n    import PyQt5"),
    (lints.waiting_windows, "qt.QMessageBox.question(None, 'a', 'b')"),
    (lints.waiting_windows, "process.waitForFinished()"),
    (lints.waiting_windows, "subprocess.run(['a'])"),
    (lints.formatted_translations, "_(f'{n} regions')"),
)
GOOD = """
class A:
    def setup(self):
        self.on(self.ui.sendButton, "clicked()", self.onSend, _("Nothing is sent."))
        self.on(self.ui.volumeSelector, "currentNodeChanged(vtkMRMLNode*)", self.onNode)
        self.ui.queueTable.setHorizontalHeaderLabels([_("a")])
        self.ui.titleLabel.text = _("{n} regions").format(n=[1].count(1))
        self.ui.cardCombo.currentIndex = self.ui.cardCombo.findData("x")
        self.timer = qt.QTimer()
        self.timer.setInterval(100)
        for name in ("send",):
            getattr(self.ui, f"{name}Button").enabled = "a".count("a") > 0

    def cell(self, table, row, path):
        item = qt.QTableWidgetItem(table.item(row, 0).text())
        item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
        value = qt.QSettings().value("a", "b")
        return item.text(), value, path.name, {1: 2}.values(), isinstance(value, str)
"""


@pytest.mark.parametrize(("lint", "text"), BAD, ids=lambda each: getattr(each, "__name__", None))
def test_a_lint_trips_on_what_pythonqt_refuses(lint, text):
    assert len(lint(lints.Source(text, WIDGETS))) >= 1


@pytest.mark.parametrize("lint", [*LINTS, lints.unknown_widgets], ids=lambda lint: lint.__name__)
def test_a_lint_leaves_alone_what_is_right(lint):
    assert lint(lints.Source(GOOD, WIDGETS)) == []


UI_TEXT = """<ui version="4.0"><widget class="QWidget" name="Form"><layout class="QVBoxLayout" name="rows">
<item><widget class="{kind}" name="{name}"><property name="{key}"><string>a</string></property>
<property name="toolTip"><string>b</string></property></widget></item>
<item><widget class="QLabel" name="label"/></item></layout></widget>
<tabstops><tabstop>{stop}</tabstop></tabstops>
<connections><connection><sender>Form</sender><receiver>{to}</receiver></connection></connections></ui>"""
RIGHT = {"kind": "QPushButton", "name": "go", "key": "text", "stop": "go", "to": "label"}


def test_a_right_ui_file_has_no_faults():
    assert lints.ui_text_faults(UI_TEXT.format(**RIGHT)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ctkDial"},
        {"name": "label"},
        {"key": "title"},
        {"stop": "gone"},
        {"to": "gone"},
        {"key": "toolTips"},
    ],
    ids=str,
)
def test_a_wrong_ui_file_is_found(wrong):
    assert len(lints.ui_text_faults(UI_TEXT.format(**RIGHT | wrong))) >= 1


def test_a_control_without_a_tool_tip_is_found():
    text = UI_TEXT.format(**RIGHT).replace('name="toolTip"', 'name="statusTip"')
    assert lints.ui_text_faults(text) == ["go: has no tool tip"]


def test_what_is_imported_on_the_way_is_found_and_what_functions_import_is_not(tmp_path):
    (tmp_path / "start.py").write_text("import middle\ndef f():\n    import late\n", encoding="utf-8")
    (tmp_path / "middle.py").write_text("if True:\n    import PIL\n", encoding="utf-8")
    (tmp_path / "late.py").write_text("import rich\n", encoding="utf-8")
    found = lints.closure([tmp_path / "start.py"], tmp_path)
    assert {file.name for file in found} == {"start.py", "middle.py"}
    assert [name for _line, name in lints.at_import(ast.parse((tmp_path / "middle.py").read_text()))] == [
        "PIL"
    ]
