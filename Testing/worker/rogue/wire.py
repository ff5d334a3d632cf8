"""What a rogue needs to look like a worker at first: read requests, say hello."""

import json
import sys

DEVICE = {"kind": "cpu", "name": "rogue", "memory_mb": 1, "available_mb": 1, "dtype": "float32", "threads": 1}
HELLO = {"protocol": 1, "pid": 1, "python": "3", "platform": "rogue", "device": DEVICE}


def listen():
    """The next request."""
    return json.loads(sys.stdin.readline())


def write(raw: bytes):
    """Bytes as they are."""
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()


def line(**message) -> bytes:
    """A message as its line."""
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


def say(**message):
    """Send a message."""
    write(line(**message))


def greet(**changes):
    """Answer the handshake."""
    say(id=listen()["id"], result={**HELLO, **changes})


def begin():
    """Greet, take a request and say that work on it has begun; its id."""
    greet()
    job = listen()["id"]
    say(method="alive", params={"job": job})
    return job
