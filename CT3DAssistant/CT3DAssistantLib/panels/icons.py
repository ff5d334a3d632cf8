"""The panels' icons, drawn for the window's own colours."""

import qt

from CT3DAssistantLib.resources import resource_path

DARK_BELOW = 128  # lightness of the window's background, 0 to 255


def icon(name: str) -> qt.QIcon:
    """An icon of Resources/Icons by its name, for a light or a dark window as the application has now."""
    theme = "dark" if is_dark() else "light"
    return qt.QIcon(str(resource_path("Icons", theme, f"{name}.svg")))


def is_dark() -> bool:
    """Whether the application's windows are dark."""
    return qt.QApplication.palette().color(qt.QPalette.Window).lightness() < DARK_BELOW
