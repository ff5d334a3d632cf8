"""Keys of a panel: QShortcuts that work while the keyboard is in it, or everywhere in the application.

Qt gives a letter to a text field before it looks for a shortcut, so what is typed is never taken.
"""

from collections.abc import Mapping
from typing import Any

import qt


def panel_keys(widget: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Shortcuts by name, switched off at first: `names` gives the key of each, e.g. {"accept": "A"}."""
    return {name: _shortcut(widget, key) for name, key in names.items()}


def switch_keys(shortcuts: Mapping[str, Any], *, is_on: bool, everywhere: bool) -> None:
    """Let keys work while the keyboard is in their panel, or everywhere in the application's windows."""
    context = qt.Qt.ApplicationShortcut if everywhere else qt.Qt.WidgetWithChildrenShortcut
    for shortcut in shortcuts.values():
        shortcut.setContext(context)
        shortcut.setEnabled(is_on)


def _shortcut(widget: Any, key: str) -> Any:
    shortcut = qt.QShortcut(widget)
    shortcut.setKey(qt.QKeySequence(key))
    shortcut.setAutoRepeat(False)  # a key held down decides once
    shortcut.setEnabled(False)
    return shortcut
