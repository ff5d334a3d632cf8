"""A rich-text document as PDF, by Qt alone: pages are laid out and painted one at a time."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import qt

from ct3d.errors import DiskFull

DPI = 96  # a picture is as many pixels wide as it says
MM, PT = DPI / 25.4, DPI / 72  # pixels
A4 = (210 * MM, 297 * MM)  # what a QPdfWriter writes unless told otherwise, with margins of 10 points
MARGIN = 15 * MM
EDGE = MARGIN - 10 * PT  # from the writer's own margin to ours
FOOT = 34.0


def writing_pdf(path: Path, html: str, foot: str) -> Generator[Any, None, Path]:
    """Write A4 pages, in bites; an earlier file stays until the new one is whole.

    Args:
        foot: text at the foot of every page, beside its number.

    Raises:
        DiskFull: if the file can't be written.
    """
    part = path.with_name(f".part-{path.stem}")
    try:
        yield from _painting(part, html, foot)
        part.replace(path)
    except OSError as error:
        raise _refused(path) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _painting(part: Path, html: str, foot: str) -> Generator[None, None, None]:
    writer = qt.QPdfWriter(str(part))
    writer.setResolution(DPI)
    writer.setTitle("Chest CT report")
    yield
    width, height = (side - 2 * MARGIN for side in A4)
    height -= FOOT
    document = qt.QTextDocument()
    document.setDocumentMargin(0)
    document.setHtml(html)
    yield
    document.setPageSize(qt.QSizeF(width, height))  # lays it out
    yield
    painter = qt.QPainter()
    if not painter.begin(writer):
        raise _refused(part)
    try:
        yield
        yield from _pages(painter, writer, document, width, height, foot)
    finally:
        painter.end()


def _pages(painter, writer, document, width, height, foot) -> Generator[None, None, None]:
    count = document.pageCount()
    painter.translate(EDGE, EDGE)
    for page in range(count):
        if page:
            writer.newPage()
        painter.save()
        painter.translate(0.0, -page * height)
        document.drawContents(painter, qt.QRectF(0.0, page * height, width, height))
        painter.restore()
        painter.setPen(qt.QColor("#8c1513"))
        painter.setFont(qt.QFont("sans-serif", 8))
        line = qt.QRectF(0.0, height + 10, width, FOOT - 10)
        painter.drawText(line, qt.Qt.AlignLeft, foot)
        painter.drawText(line, qt.Qt.AlignRight, f"{page + 1} / {count}")
        yield


def _refused(path: Path) -> DiskFull:
    return DiskFull(f"{path} can't be written. Choose another folder or free space there.")
