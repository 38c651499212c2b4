#!/usr/bin/python3
"""Writes the seed corpus of fuzz_msg: run from the repository's root after a change of common/msg.def."""
import struct
import msgpack

FOLDER = "tests/fuzz/corpus/msg/"


def record(*fields):
    return msgpack.packb(list(fields))


def blob(answer, text):
    return struct.pack("<I", len(answer)) + answer + b"\0" + text


PATH = b"".join(struct.pack("<I", len(b)) + b for b in (blob(b"", b"1+1=2\n"), blob(b"2", b"#2")))
SEEDS = {
    "hello": record(10, 1, 77, "w1", 0, "tinylm,exec", 32, 2000, 1) + record(11, 5) + record(11, 6),
    "heartbeat": record(12, 2000, 10),
    "result": record(13, 5, 0, 3, 4, 0, 10, 2, struct.pack("<d", -1.5), "42", b"\0text", 3, 1, 1),
    "verdict": record(14, 5, 1, 0.5, 3),
    "task": record(30, 1) + record(33, 9, 0, 0, 1, 2, 123, 64, 1000, 0, 0, b'{"prompt":"x"}', PATH, 0, 16, 11.5),
    "path": PATH,
    "spec": record(30, 1) + record(32, 0, 0, b'{"backend":"tinylm"}'),
    "reselect": record(61, "s", "again", "arms.yaml", "name: a\nn: 4\n"),
    "extra": record(12, 2000, 10, [1, [2, [3]]], "later"),
    "short": record(12),
    "array32": b"\xdd\xff\xff\xff\xff",
    "str32": b"\x92\x0a\xdb\xff\xff\xff\xff",
    "deep": b"\x91" * 40,
    "map": b"\x81\x01\x02",
    "nan": record(14, 5, 1, float("nan"), 3),
    "negative": record(12, -1, 2**64 - 1),
    "empty": b"",
    "unknown": record(250, 1),
    "zstd": PATH[:8] + b"\x01\x28\xb5\x2f\xfd" + b"\xff" * 12,
}
for name, data in SEEDS.items():
    with open(FOLDER + name, "wb") as file:
        file.write(data)
