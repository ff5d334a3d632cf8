"""The private exchange folder of one session: made at its start, gone at its end, swept up after a crash.

A living session holds a lock on a file in its folder, which the system lets go when the process ends, however
it ends. Only folders of this user whose lock is free are ever removed.
"""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO

PREFIX = "ct3d-session-"
LOCK = "session.lock"
YOUNG_S = 60.0  # a folder this young may not have taken its lock yet


class SessionFolder:
    """A folder (mode 0700) under the user's temporary folder, for arrays beside the wire.

    Attributes:
        path: where it lies; removed by `close`, at exit, or by a later session.
    """

    def __init__(self, parent: Path | None = None):
        parent = Path(parent or tempfile.gettempdir())
        remove_orphans(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = (self.path / LOCK).open("xb")
        _try_lock(lock)
        self._remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())  # runs at exit too

    def close(self) -> None:
        """Remove the folder and all in it."""
        self._remove()

    def __enter__(self) -> "SessionFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_orphans(parent: Path) -> tuple[Path, ...]:
    """Remove what crashed sessions of this user left in a folder; gives what was removed."""
    return tuple(folder for folder in sorted(parent.glob(f"{PREFIX}*")) if _remove_orphan(folder))


def _remove_orphan(folder: Path) -> bool:
    with contextlib.suppress(
        OSError
    ):  # another session sweeps at the same time, or Windows keeps an open file
        if not _is_old_folder_of_mine(folder):
            return False
        with _open_lock(folder / LOCK) as lock:
            if not _try_lock(lock):
                return False
            if sys.platform != "win32":  # there an open file can't be removed
                shutil.rmtree(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    return False


def _is_old_folder_of_mine(folder: Path) -> bool:
    """A real folder, not a link to one, that this user made some time ago."""
    about = folder.lstat()
    mine = sys.platform == "win32" or about.st_uid == os.getuid()
    return stat.S_ISDIR(about.st_mode) and mine and time.time() - about.st_ctime > YOUNG_S


def _open_lock(path: Path) -> IO[bytes]:
    """The lock file, made where the crash came before it; a link in its place is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def _try_lock(file: IO[bytes]) -> bool:
    """Lock a file for as long as it is open in this process; False where another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: Path, lock: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a forked child ends earlier than the session
        return
    if sys.platform == "win32":
        lock.close()
    shutil.rmtree(path, ignore_errors=True)
    lock.close()
