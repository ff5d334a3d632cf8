"""A good worker behind a bad pipe: every message arrives in pieces."""

import time

from wire import begin, line, write

job = begin()
whole = line(method="text", params={"job": job, "piece": "né"}) + line(id=job, result={"text": "whole"})
for start in range(0, len(whole), 7):
    write(whole[start : start + 7])
    time.sleep(0.002)
time.sleep(600)
