"""The envelope: lines out, lines in, nothing else."""

import json
import random
from functools import reduce

import pytest

from ct3d.errors import InvalidRequest, OutOfMemory, TaskFailed
from ct3d.protocol.messages import (
    BACK,
    MAX_LINE_BYTES,
    Alive,
    Failure,
    Fault,
    LineBuffer,
    Notification,
    Progress,
    Request,
    Response,
    Text,
    decode_line,
    decode_note,
    encode_line,
    streamed,
)

MESSAGES = [
    Request(1, "segment", {"card": "anatomy_rules", "nested": {"a": [1, 2.5, None, True, "ü\n\u2028"]}}),
    Response(1, {"ok": True}),
    Failure(1, Fault(-32012, "Too little memory.")),
    Failure(None, Fault(-32602, "What?")),
    Notification("progress", {"job": 1, "stage": "lungs", "fraction": 0.5, "eta_s": None}),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_line_and_comes_back(message):
    line = encode_line(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["jsonrpc"] == "2.0"
    assert decode_line(line) == message


def test_lines_cut_anywhere_are_put_together():
    dice = random.Random(0)
    wire = b"".join(encode_line(message) for message in MESSAGES * 20)
    for _ in range(20):
        cuts = sorted(dice.sample(range(len(wire)), 30))
        buffer, found = LineBuffer(), []
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            found += buffer.feed(wire[start:end])
        assert [decode_line(line) for line in found] == MESSAGES * 20


def test_a_line_beyond_the_limit_is_never_held():
    buffer = LineBuffer(limit=100)
    assert buffer.feed(b"x" * 100) == []
    with pytest.raises(InvalidRequest, match="longer than 100"):
        buffer.feed(b"x")
    assert buffer.feed(b"y\n") == [b"y"]


def test_a_message_beyond_the_limit_is_not_made():
    with pytest.raises(InvalidRequest, match="too long"):
        encode_line(Response(1, {"text": "x" * MAX_LINE_BYTES}))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b"{}",
        b"Loading weights 100%",
        b"\xff\xfe",
        b'{"jsonrpc":"1.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"result":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"a":Infinity}}',
        b'{"jsonrpc":"2.0","id":"1","result":{}}',
        b'{"jsonrpc":"2.0","id":true,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":[]}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":""}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":{},"more":1}',
        b'{"jsonrpc":"2.0","method":1,"params":{}}',
        b'{"jsonrpc":"2.0","method":"x","params":[1]}',
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"result":{}}',
    ],
)
def test_what_is_no_message_is_refused(line):
    with pytest.raises(InvalidRequest):
        decode_line(line)


def test_a_half_surrogate_is_refused_where_it_is_written():
    with pytest.raises(InvalidRequest, match="Unicode"):
        encode_line(Response(1, {"text": "\ud800"}))


def test_random_bytes_never_do_more_than_be_refused():
    dice = random.Random(1)
    good = encode_line(MESSAGES[0])
    for _ in range(2000):
        spoiled = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            spoiled[dice.randrange(len(spoiled))] = dice.randrange(256)
        try:
            decode_line(bytes(spoiled))
        except InvalidRequest as refused:
            assert str(refused)


def test_a_failure_carries_its_typed_error_over():
    sent = OutOfMemory("The machine ran out of memory. Crop the volume.")
    received = decode_line(encode_line(Failure.of(7, sent))).exception
    assert type(received) is OutOfMemory
    assert str(received) == str(sent)


def test_a_code_from_the_future_becomes_a_failed_task():
    assert type(Failure(1, Fault(-1, "?")).exception) is TaskFailed


def test_a_note_is_decoded_by_its_method():
    assert decode_note(Notification("alive", {"job": 3})) == Alive(3)
    assert decode_note(Notification("text", {"job": 3, "piece": "The "})) == Text(3, "The ")
    assert decode_note(Notification("progress", {"job": 3, "stage": "a", "fraction": 1})) == Progress(
        3, "a", 1.0
    )


@pytest.mark.parametrize(
    "note", [Notification("cheer", {"job": 3}), Notification("text", {"job": 3}), Notification("alive", {})]
)
def test_a_note_that_no_worker_sends_is_refused(note):
    with pytest.raises(InvalidRequest):
        decode_note(note)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("The ", "lung"), "The lung"),
        (("The lung", BACK * 4 + "heart"), "The heart"),
        (("The", BACK * 9 + "A"), "A"),
        (("The", BACK * 3), ""),
        ((), ""),
    ],
)
def test_streamed_pieces_add_up_and_may_take_back(pieces, text):
    assert reduce(streamed, pieces, "") == text
