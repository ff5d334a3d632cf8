"""Keys that work while a panel is shown, wherever in the application the person is, but where text is typed.

A key is a QShortcut of the application under a widget of the panel: Qt lets it work only while that widget is
to be seen, and gives letters to a text field first.
"""

from collections.abc import Mapping
from typing import Any

import qt


def application_keys(widget: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Shortcuts by name, switched off at first: `names` gives the key of each, e.g. {"accept": "A"}."""
    return {name: _shortcut(widget, key, qt.Qt.ApplicationShortcut) for name, key in names.items()}


def panel_key(widget: Any, key: str) -> Any:
    """A shortcut that works only while the keyboard is in this widget or a child, switched off at first."""
    return _shortcut(widget, key, qt.Qt.WidgetWithChildrenShortcut)


def _shortcut(widget: Any, key: str, context: Any) -> Any:
    shortcut = qt.QShortcut(widget)
    shortcut.setKey(qt.QKeySequence(key))
    shortcut.setContext(context)
    shortcut.setAutoRepeat(False)  # a key held down decides once
    shortcut.setEnabled(False)
    return shortcut
