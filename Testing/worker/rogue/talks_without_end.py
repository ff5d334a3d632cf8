"""Floods the host with progress and the log with lines; then works as it should."""

import sys

from wire import begin, line, say, write

job = begin()
progress = line(method="progress", params={"job": job, "stage": "flood", "fraction": 0.5, "eta_s": None})
for n in range(200):
    write(progress * 100)
    sys.stderr.write(f"log line {n} " + "y" * 2000 + "\n")
say(id=job, result={"text": "after the flood"})
sys.stdin.read()
