"""Write Testing/unit/qt_members.json: what Qt's classes have, as the tests of the panels' code know it.

Run where PySide6, PySide2-stubs and PyQt5-stubs (both of Qt 5.15) are installed: what only one of the two
Qt versions has is left out, for Slicer is built with either. The stand-ins of Testing/ui/widgets_double.py go
in as they are.
"""

import ast
import inspect
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from PySide6 import QtCore, QtGui, QtNetwork, QtPrintSupport, QtWidgets

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Testing" / "ui"))
from widgets_double import STAND_INS  # noqa: E402

MODULES = (QtCore, QtGui, QtNetwork, QtPrintSupport, QtWidgets)
WIDGETS_LEFT_OUT = ("QGraphics", "QStyle", "QGesture", "QUndo", "QWizard", "QMdi", "QTap", "QPan", "QPinch")
VIRTUAL = re.compile(
    r"_|SIGNATURES$|staticMetaObject$|event$|initStyleOption$|\w+Event$|metric$|devType$"
)  # of no use to a panel
OTHERS = """
    QObject QTimer QProcess QProcessEnvironment QSettings QUrl QClipboard QIcon QPixmap QImage QColor QFont
    QFontMetrics QPalette QBrush QPen QKeySequence QShortcut QAction QActionGroup QTextDocument QTextCursor
    QTextCharFormat QTextBlockFormat QTextBlock QPdfWriter QPrinter QPageSize QPageLayout QDesktopServices
    QFile QDir QFileInfo QByteArray QSize QPoint QRect QMargins QEventLoop QCoreApplication QGuiApplication
    QPainter QStandardPaths QElapsedTimer QDateTime QLocale QScreen QModelIndex QItemSelectionModel Qt
    QSizeF QMarginsF QRectF QPointF
    """


def qt5_members() -> dict[str, set[str]]:
    """Members of each class of Qt 5.15, inherited ones and enumerators included."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for package in ("PySide2-stubs", "PyQt5-stubs"):  # the first lacks private signals such as timeout()
        folder = Path(find_spec(package).submodule_search_locations[0])
        for module in ("QtCore", "QtGui", "QtNetwork", "QtPrintSupport", "QtWidgets"):
            for node in ast.parse((folder / f"{module}.pyi").read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    own.setdefault(node.name, set()).update(
                        name for each in node.body for name in names_in(each)
                    )
                    bases.setdefault(node.name, set()).update(map(last_name, node.bases))

    def inherited(name: str) -> set[str]:
        return own[name].union(*(inherited(base) for base in bases[name] if base in own and base != name))

    return {name: inherited(name) for name in own}


def last_name(node: ast.expr) -> str:
    """`C` of `a.b.C`."""
    return ast.unparse(node).rpartition(".")[2]


def names_in(node: ast.stmt) -> list[str]:
    """Names that a statement of a class body defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [node.target.id] if isinstance(node, ast.AnnAssign) else []


def describe(kind: type, qt5: dict[str, set[str]]) -> dict:
    """Base, own properties, own signals and own other members of a class."""
    base = next((each for each in kind.__mro__[1:] if each.__name__ in qt5), None)
    meta = getattr(kind, "staticMetaObject", None) if issubclass(kind, QtCore.QObject) else None
    properties = [meta.property(n).name() for n in own(meta, "property")] if meta else []
    signals = [text(meta.method(n)) for n in own(meta, "method") if is_signal(meta.method(n))] if meta else []
    both = every_name(kind) & qt5.get(kind.__name__, every_name(kind))
    names = both - (every_name(base) & qt5[base.__name__] if base else set())
    names = {name for name in names if not VIRTUAL.match(name)}
    statics = {name for name in properties if inspect.isbuiltin(getattr(kind, name, None))}
    signal_names = {each.partition("(")[0] for each in signals}
    return {
        "base": base.__name__ if base else "",
        "properties": sorted(properties),
        "signals": sorted(aliased(kind, [each for each in signals if each.partition("(")[0] in both])),
        "members": sorted((names - set(properties) - signal_names) | statics),
    }


def every_name(kind: type) -> set[str]:
    """Members of a class with what it inherits, and all enumerators."""
    enumerations = [value for parent in kind.__mro__ for value in vars(parent).values()]
    names = {name for each in enumerations for name in getattr(each, "__members__", ())}
    return {*dir(kind), *names}


def own(meta: QtCore.QMetaObject, what: str) -> range:
    """Indexes of a class's own properties or methods."""
    return range(getattr(meta, f"{what}Offset")(), getattr(meta, f"{what}Count")())


def is_signal(method: QtCore.QMetaMethod) -> bool:
    return method.methodType() == QtCore.QMetaMethod.MethodType.Signal


def text(method: QtCore.QMetaMethod) -> str:
    return method.methodSignature().data().decode()


def aliased(kind: type, signals: list[str]) -> list[str]:
    """Signatures with MRML's types, where a stand-in passes Python objects."""
    genuine = {ours: theirs for theirs, ours in getattr(kind, "SIGNATURES", {}).items()}
    return [genuine.get(each, each) for each in signals]


def main() -> None:
    qt5 = qt5_members()
    names = {name for name in dir(QtWidgets) if name[0] == "Q" and not name.startswith(WIDGETS_LEFT_OUT)}
    kinds = [
        getattr(module, name)
        for module in MODULES
        for name in dir(module)
        if name in {*names, *OTHERS.split()}
    ]
    kinds = [kind for kind in kinds if isinstance(kind, type) and kind.__name__ in qt5]
    kinds += [each for kind in (*kinds, *STAND_INS) for each in kind.__mro__ if each.__name__ in qt5]
    table = {kind.__name__: describe(kind, qt5) for kind in (*kinds, *STAND_INS)}
    lines = [f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)]
    path = ROOT / "Testing" / "unit" / "qt_members.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
