"""The exchange folder of a session is private, goes with it, and is swept up after a crash."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import CODE

from ct3d.client import session_folder
from ct3d.client.session_folder import SessionFolder, remove_orphans

HOST = """
import sys, time
from pathlib import Path
from ct3d.client.session_folder import SessionFolder
folder = SessionFolder(Path(sys.argv[1]))
(folder.path / "volume.npy").write_bytes(b"x")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def a_host(tmp_path):
    """Another process with a session of its own, ended by closing its input."""
    command = [sys.executable, "-c", HOST, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=CODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.folder = Path(process.stdout.readline().strip())
        yield process
        process.kill()


def make_old(folder: Path, monkeypatch):
    """Change times can't be set, so the clock is moved."""
    now = time.time()
    monkeypatch.setattr(session_folder.time, "time", lambda: now + 2 * session_folder.YOUNG_S)


def test_it_is_private(tmp_path):
    with SessionFolder(tmp_path) as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert folder.path.stat().st_uid == os.getuid()


def test_it_is_gone_when_closed(tmp_path):
    folder = SessionFolder(tmp_path)
    (folder.path / "volume.npy").write_bytes(b"x")
    folder.close()
    folder.close()
    assert not list(tmp_path.iterdir())


def test_it_is_gone_when_the_host_exits(a_host):
    a_host.stdin.close()
    a_host.wait(10)
    a_host.stdin = None
    assert not a_host.folder.exists()


def test_a_crashed_session_is_swept_up_by_the_next(a_host, tmp_path, monkeypatch):
    a_host.send_signal(signal.SIGKILL)
    a_host.wait(10)
    assert a_host.folder.exists()
    make_old(a_host.folder, monkeypatch)
    with SessionFolder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder.path]


def test_a_living_session_is_left_alone_however_old(a_host, tmp_path, monkeypatch):
    make_old(a_host.folder, monkeypatch)
    assert remove_orphans(tmp_path) == ()
    assert (a_host.folder / "volume.npy").exists()


def test_a_session_that_is_just_being_made_is_left_alone(tmp_path):
    young = tmp_path / f"{session_folder.PREFIX}young"
    young.mkdir(mode=0o700)
    assert remove_orphans(tmp_path) == ()
    assert young.exists()


def test_a_crash_before_the_lock_leaves_no_folder_for_ever(tmp_path, monkeypatch):
    unlocked = tmp_path / f"{session_folder.PREFIX}unlocked"
    unlocked.mkdir(mode=0o700)
    make_old(unlocked, monkeypatch)
    assert remove_orphans(tmp_path) == (unlocked,)


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    (tmp_path / f"{session_folder.PREFIX}link").symlink_to(precious)
    make_old(precious, monkeypatch)
    assert remove_orphans(tmp_path) == ()
    assert (precious / "thesis.tex").read_text() == "years"


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("years")
    folder = tmp_path / f"{session_folder.PREFIX}trap"
    folder.mkdir()
    (folder / session_folder.LOCK).symlink_to(precious)
    make_old(folder, monkeypatch)
    assert remove_orphans(tmp_path) == ()
    assert precious.read_text() == "years"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of another user")
def test_the_folder_of_another_user_is_left_alone(tmp_path, monkeypatch):
    theirs = tmp_path / f"{session_folder.PREFIX}theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    make_old(theirs, monkeypatch)
    assert remove_orphans(tmp_path) == ()
    assert theirs.exists()


def test_a_forked_child_takes_no_folder_with_it(tmp_path):
    with SessionFolder(tmp_path) as folder:
        child = os.fork()
        if child == 0:
            folder.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert folder.path.exists()
