#!/usr/bin/python3
"""Follows the rollouts of a sweep through Redis, as one reader of a group: every rollout goes to one of its readers.

    doc/consumer.py unix:///run/redis.sock GROUP READER [SWEEP] [PREFIX]

Each committed rollout is printed once, through restarts of Redis and of the broker, as long as Redis keeps its data."""
import json
import sys
import time

import redis

url, group, reader = sys.argv[1:4]
sweep = sys.argv[4] if len(sys.argv) > 4 else None
stream = (sys.argv[5] if len(sys.argv) > 5 else "drover") + ":events"
server = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)
after = "0"  # first what this reader was given and did not acknowledge, then ">": what nobody was given
done = "0-0"  # the last entry that was handled: it comes again if Redis did not hear of the acknowledgement
missing = False  # the group; another reader may be as quick to make it


def number(entry):
    return tuple(int(part) for part in entry.split("-"))


def handle(event):  # here a trainer would learn
    if event["event"] == "rollout" and sweep in (None, event["sweep"]):
        print(event["seq"], event["prompt"], event["ordinal"], event["answer"], flush=True)


while True:
    try:
        if missing:
            server.xgroup_create(stream, group, done, mkstream=True)
        missing = False
        for _, entries in server.xreadgroup(group, reader, {stream: after}, count=16, block=1000):
            for entry, fields in entries:
                if number(entry) > number(done):
                    for line in fields.get("events", "").splitlines():
                        handle(json.loads(line))
                done = max(done, entry, key=number)
                server.xack(stream, group, entry)
            after = "0" if after == "0" and entries else ">"
    except redis.exceptions.RedisError as error:  # it is away, loading, new or empty
        after = "0"
        missing = "NOGROUP" in str(error)
        time.sleep(0.1)
