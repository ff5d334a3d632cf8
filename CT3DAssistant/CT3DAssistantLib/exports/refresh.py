"""A report page written anew from its case, with the pictures it holds already: for what was asked later."""

from html.parser import HTMLParser
from pathlib import Path

from ct3d.case import Case
from CT3DAssistantLib.exports.figures import Figure, Figures
from CT3DAssistantLib.exports.html import write_html


def refresh_html(path: Path, case: Case) -> bool:
    """Write the page anew; False, and nothing done, where there is no page.

    Raises:
        DiskFull: if the file can't be written; the earlier page stays.
    """
    if not path.is_file():
        return False
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    write_html(path, case, page.figures(), notes=tuple(page.notes))
    return True


class _Page(HTMLParser):
    """Reads the figures of the viewer, and the notes below the key pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Figure, list[str]]] = []
        self.notes: list[str] = []
        self._figure: dict[str, str | None] = {}
        self._is_in_pictures = self._is_in_note = False

    def figures(self) -> Figures:
        """What the page shows."""
        key = tuple(figure for figure, _ in self.found if figure.id.startswith("key-"))
        places = tuple(figure for figure, _ in self.found if not figure.id.startswith("key-"))
        return Figures(key, places, {each: figure.id for figure, shown in self.found for each in shown})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self._is_in_pictures = given.get("id") == "pictures"
        self._is_in_note = tag == "p" and self._is_in_pictures
        if tag == "figure":
            self._figure = given
        elif tag == "img" and self._figure:
            figure = Figure(self._figure["id"] or "", given["alt"] or "", given["src"] or "")
            self.found.append((figure, (self._figure.get("data-shows") or "").split()))

    def handle_endtag(self, tag: str) -> None:
        self._is_in_note = False
        if tag == "figure":
            self._figure = {}

    def handle_data(self, data: str) -> None:
        if self._is_in_note:
            self.notes.append(data)
