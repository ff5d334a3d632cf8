"""Proves that it lives, but never for the job in question."""

import time

from wire import greet, say

greet()
while True:
    say(method="alive", params={"job": 10**6})
    time.sleep(0.05)
