"""Data files of the project: the same answer in the source tree and installed."""

from pathlib import Path

from ct3d.cards import cards_folder


def resource_path(*parts: str) -> Path:
    """Path of a file or folder under Resources."""
    return cards_folder().parent.joinpath(*parts)
