"""Becomes a rogue the first times it is started, then the real worker: counter, times, rogue, command…"""

import os
import sys
from pathlib import Path

counter, times, rogue, *command = sys.argv[1:]
with Path(counter).open("a+") as file:
    file.write("x")
is_rogue = len(Path(counter).read_text()) <= int(times)
command = [sys.executable, rogue] if is_rogue else command
os.execv(command[0], command)
