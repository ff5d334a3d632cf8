"""Cases laid out as OpenKBP's, small enough for tests: a lumpy body, eleven points in it."""

from pathlib import Path

import numpy as np

from ct3d.training.openkbp import LANDMARKS

SHAPE = (32, 40, 48)  # anterior → posterior, right → left, superior → inferior


def write_case(folder: Path, number: int, *, unknown: tuple[int, ...] = ()) -> Path:
    """Write pt_NUMBER.npz. Its spacing is like no other number's, so a test's oracle can tell cases apart."""
    rng = np.random.default_rng(number)
    spacing = np.array([4.0, 4.0, 3.0], np.float32) + np.float32(number / 100)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"), -1)
    is_body = np.linalg.norm(place / (0.8, 0.8, 0.95), axis=-1) < 1
    ct = np.where(is_body, rng.integers(60, 140, SHAPE), 0).astype(np.uint8)
    points = (np.array(SHAPE) - 1) / 2 * (1 + rng.uniform(-0.35, 0.35, (len(LANDMARKS), 3)))
    points[list(unknown)] = np.nan
    path = folder / f"pt_{number}.npz"
    np.savez_compressed(path, ct=ct, landmarks=points.astype(np.float32), spacing=spacing)
    return path
