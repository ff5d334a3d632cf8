"""Measurements of a case as attributes.csv."""

import csv
import io
from pathlib import Path

from ct3d.case import Case
from CT3DAssistantLib.exports.files import write_file
from CT3DAssistantLib.scene import ATTRIBUTE_COLUMNS, attribute_row


def write_attributes(path: Path, case: Case) -> Path:
    """Write one row per measurement, under a header.

    Raises:
        DiskFull: if the file can't be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(ATTRIBUTE_COLUMNS)
    writer.writerows(map(attribute_row, case.attributes))
    return write_file(path, text.getvalue())
