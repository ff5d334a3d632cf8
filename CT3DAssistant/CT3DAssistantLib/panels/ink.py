"""Colours of rich text, from a widget's palette, that can be read on a light and on a dark window."""

from typing import Any

import qt

from CT3DAssistantLib.conversation import Ink

ON_LIGHT = {"good": "#1b6e3c", "warn": "#845400", "bad": "#a4201d"}
ON_DARK = {"good": "#7fd3a0", "warn": "#f1c469", "bad": "#ff9d97"}
READABLE = 4.5  # least contrast of text (WCAG 2.1, AA)


def ink_of(widget: Any) -> Ink:
    """The colours of rich text in a widget: its own, and a link colour with enough contrast."""
    palette = widget.palette
    base, text = palette.color(qt.QPalette.Base), palette.color(qt.QPalette.Text)
    link = palette.color(qt.QPalette.Link)
    readable = contrast(link, base) >= READABLE
    return Ink(
        text=text.name(),
        quiet=mixed(text, base, 0.3).name(),
        link=(link if readable else mixed(link, text, 0.6)).name(),
        answer=mixed(base, text, 0.07).name(),
        edge=mixed(text, base, 0.45).name(),
        chosen=mixed(base, palette.color(qt.QPalette.Highlight), 0.25).name(),
        **(ON_DARK if _luminance(base) < 0.2 else ON_LIGHT),
    )


def mixed(color: Any, other: Any, share: float) -> Any:
    """A colour with a share (0 to 1) of another in it."""
    parts = zip(_rgb(color), _rgb(other), strict=True)
    return qt.QColor(*(round(own * (1 - share) + its * share) for own, its in parts))


def contrast(color: Any, other: Any) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.1)."""
    low, high = sorted((_luminance(color), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _rgb(color: Any) -> tuple[int, int, int]:
    return color.red(), color.green(), color.blue()


def _luminance(color: Any) -> float:
    parts = (part / 255 for part in _rgb(color))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
