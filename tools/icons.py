"""Draws the panels' icons: one table of 16 x 16 shapes, two folders of SVG, for light and for dark windows.

Run `make icons` after a change. Colour is never the only sign: every shape differs too.
"""

from pathlib import Path

ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
THEMES = {  # name of a tone → colour in a light window and in a dark one
    "light": {"plain": "#3c4048", "good": "#1b7f3b", "doubt": "#9a6700", "bad": "#c62828", "calm": "#1f5fae"},
    "dark": {"plain": "#d5d8de", "good": "#5fd38d", "doubt": "#f0c14b", "bad": "#ff8a80", "calm": "#8ab4f8"},
}
SHAPES = {  # name → tone, drawing; strokes are drawn 1.6 wide, round, unfilled unless the drawing says so
    "supported": ("good", '<circle cx="8" cy="8" r="6.5"/><path d="M5 8.2 7.2 10.5 11 6"/>'),
    "unsupported": (
        "doubt",
        '<circle cx="8" cy="8" r="6.5"/><path d="M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.6.3-.8.6-.8 1.2M8 11.6v.1"/>',
    ),
    "contradicted": ("bad", '<path d="M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3L1.5 10.7V5.3z"/><path d="M5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6"/>'),
    "accept": ("good", '<path d="M2.5 8.5 6.3 12.3 13.5 4"/>'),
    "reject": ("bad", '<path d="M3.5 3.5l9 9M12.5 3.5l-9 9"/>'),
    "move": (
        "calm",
        '<path d="M8 1.5v13M1.5 8h13M6.2 3.3 8 1.5l1.8 1.8M6.2 12.7 8 14.5l1.8-1.8M3.3 6.2 1.5 8l1.8 1.8M12.7 6.2 14.5 8l-1.8 1.8"/>',
    ),
    "undefined": ("doubt", '<circle cx="8" cy="8" r="6.3" stroke-dasharray="2.4 2.2"/><path d="M5.5 8h5"/>'),
    "next": ("plain", '<path d="M4 2.5 11 8l-7 5.5M12.5 2.5v11"/>'),
    "previous": ("plain", '<path d="M12 2.5 5 8l7 5.5M3.5 2.5v11"/>'),
    "play": ("good", '<path d="M4 2.5v11l9-5.5z"/>'),
    "stop": ("bad", '<rect x="3" y="3" width="10" height="10" rx="1"/>'),
    "copy": ("plain", '<rect x="5.5" y="5.5" width="8" height="9" rx="1"/><path d="M10.5 5.5v-4h-8v9h3"/>'),
    "export": ("plain", '<path d="M8 10V1.8M5 4.5l3-3 3 3M2.5 9v5h11V9"/>'),
    "edit": ("plain", '<path d="M2 14l.9-3.6L11 2.2l2.8 2.8-8.2 8.1zM9.3 4l2.8 2.8"/>'),
    "restore": ("plain", '<path d="M2.5 3v4h4M3 7a5.5 5.5 0 1 1 .6 4"/>'),
    "sign": ("calm", '<path d="M1.5 14h13M2 11c3-7 5-9 5.5-7.5C8 6 4 10.5 5.5 10.8 7 11 7.5 7.5 9 7.8c1 .3-.3 2.7 1 3 1.2.2 1.5-1.3 4-1.8"/>'),
    "eye": ("plain", '<path d="M1 8c3-5.5 11-5.5 14 0-3 5.5-11 5.5-14 0z"/><circle cx="8" cy="8" r="2.2"/>'),
    "cube": ("plain", '<path d="M8 1.3l6 3.2v7L8 14.7l-6-3.2v-7zM2 4.5l6 3.2 6-3.2M8 7.7v7"/>'),
    "target": ("calm", '<circle cx="8" cy="8" r="4.5"/><path d="M8 1v5M8 10v5M1 8h5M10 8h5"/>'),
    "info": ("calm", '<circle cx="8" cy="8" r="6.5"/><path d="M8 7.3v4M8 4.5v.1"/>'),
    "warning": ("doubt", '<path d="M8 1.8l6.7 12H1.3zM8 6.3v4M8 12v.1"/>'),
    "error": ("bad", '<circle cx="8" cy="8" r="6.5"/><path d="M8 4.3v4.5M8 11.3v.1"/>'),
    "folder": ("plain", '<path d="M1.5 13V3h4.8l1.5 2h6.7v8z"/>'),
    "install": ("calm", '<path d="M8 1.5v8.2M5 7l3 3 3-3M2.5 10v4h11v-4"/>'),
    "remove": ("bad", '<path d="M2.5 4h11M6 4V2h4v2M4 4l.7 10.2h6.6L12 4M6.6 6.5v5M9.4 6.5v5"/>'),
    "refresh": ("plain", '<path d="M13.5 2.5v4h-4M13 6.5a5.5 5.5 0 1 0 .4 3.2"/>'),
    "send": ("calm", '<path d="M1.5 8 14.5 2 10.5 14 7.5 9.2zM7.5 9.2l7-7.2"/>'),
    "sample": ("plain", '<ellipse cx="8" cy="8" rx="6.5" ry="5"/><ellipse cx="5.5" cy="7.8" rx="1.6" ry="2.4"/><ellipse cx="10.5" cy="7.8" rx="1.6" ry="2.4"/>'),
    "help": ("calm", '<path d="M5 5.3a3 3 0 1 1 4.2 2.900c-.9.5-1.2 1-1.2 2M8 13v.1"/>'),
    "add": ("good", '<path d="M8 2.5v11M2.5 8h11"/>'),
}  # fmt: skip


def drawing(tone: str, shape: str, theme: str) -> str:
    """One icon as SVG text; large, since Qt without its SVG icon engine scales pictures down, never up."""
    style = f'fill="none" stroke="{THEMES[theme][tone]}" stroke-width="1.6" stroke-linecap="round" '
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 16 16">'
    return f'{head}<g {style}stroke-linejoin="round">{shape}</g></svg>\n'


def main() -> None:
    """Write every icon for both themes."""
    for theme in THEMES:
        for name, (tone, shape) in SHAPES.items():
            (ICONS / theme / f"{name}.svg").write_text(drawing(tone, shape, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
