"""Where the files lie that a recipe names."""

from pathlib import Path

from ct3d.cards import shipped_weights_folder, weights_folder
from ct3d.errors import WeightsMissing


def find_scan(name: str, data: Path, samples: Path) -> Path:
    """Where a recipe's scan lies: in the folder of data, or among the fetched samples."""
    return next((folder / name for folder in (data, samples) if (folder / name).exists()), data / name)


def find_start(name: str) -> Path:
    """Where the weights lie that a recipe goes on from: a path, or a name in one of the weights folders.

    Raises:
        WeightsMissing: in neither folder.
    """
    places = [folder / name for folder in (shipped_weights_folder(), weights_folder())]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise WeightsMissing(
            f"There is no {name}. Train its recipe first, and copy what it gives to {places[1]}."
        )
    return found
