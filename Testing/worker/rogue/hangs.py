"""Hangs, and so does its child, which holds the same pipes."""

import subprocess
import sys
import time

from wire import begin

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
sys.stderr.write(f"child {child.pid}\n")
sys.stderr.flush()
begin()
time.sleep(600)
