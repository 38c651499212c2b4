#!/usr/bin/env python3
"""Writes the seeds of fuzz_event: whole lives of a sweep, some events honest, some not.

    tests/fuzz/seed_event.py tests/fuzz/corpus/event
"""
import os
import random
import sys

TICK, DISPATCH, SUBMIT, CONTROL, HELLO, HEARTBEAT, RESULT, VERDICT, FAIL, RETURN, REFUSE, DRAIN, GONE = range(13)


def wild(rng, usual):
    """A number: the usual one, or any eight bytes."""
    return bytes([usual]) if rng.random() < 0.97 else b"\xff" + rng.randbytes(8)


def hello(rng, agent):
    running = [rng.randrange(40) for _ in range(rng.randrange(4))]
    return (bytes([HELLO, agent, agent & 1]) + wild(rng, 1) + wild(rng, 4) + wild(rng, 50) + bytes([len(running)])
            + b"".join(wild(rng, lease) for lease in running))


def about(rng, lease):
    agent = rng.randrange(4)
    kind = rng.choices([RESULT, VERDICT, FAIL, RETURN, REFUSE], [8, 8, 2, 1, 1])[0]
    head = bytes([kind, agent]) + wild(rng, lease)
    if kind == RESULT:
        body = (wild(rng, rng.choice([0, 0, 1, 2, 5])) + wild(rng, 8) + wild(rng, rng.randrange(1, 20)) + wild(rng, 5)
                + b"\x02" + bytes([rng.randrange(256)]) + bytes([rng.randrange(4), 1]))
    elif kind == VERDICT:
        body = wild(rng, rng.randrange(3)) + wild(rng, rng.randrange(100)) + wild(rng, 3)
    else:
        body = wild(rng, 8) + wild(rng, 5) + wild(rng, 5)
    return head + body


def other(rng):
    kind = rng.choice([TICK, HEARTBEAT, HEARTBEAT, DRAIN, GONE, CONTROL, SUBMIT])
    if kind == HEARTBEAT:
        return bytes([kind, rng.randrange(4)]) + wild(rng, 50)
    if kind == CONTROL:
        return bytes([kind]) + wild(rng, rng.randrange(2)) + wild(rng, rng.randrange(4))
    if kind == SUBMIT:
        return bytes([kind, rng.randrange(32)]) + rng.randbytes(2) + bytes([rng.choice([0, 0, rng.randrange(256)])])
    return bytes([kind, rng.randrange(4)]) if kind in (DRAIN, GONE) else bytes([kind])


def life(rng):
    out = bytes([rng.randrange(16)])
    for agent in range(4):
        out += hello(rng, agent) + b"\x01"
    for lease in range(1, 60):
        out += bytes([DISPATCH, 1])
        for _ in range(rng.randrange(1, 4)):
            out += about(rng, max(0, lease - rng.randrange(4))) + b"\x02"
        if rng.random() < 0.3:
            out += (other(rng) if rng.random() < 0.7 else hello(rng, rng.randrange(4))) + b"\x02"
    return out


def main():
    for seed in range(12):
        with open(os.path.join(sys.argv[1], f"life-{seed}"), "wb") as file:
            file.write(life(random.Random(seed)))


if __name__ == "__main__":
    main()
