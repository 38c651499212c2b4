"""What the integration tests share: cases as TAP, a temporary folder, processes ended by pid, waiting with a deadline.

The program under test is $BUILD/drover (default build/drover). It is copied first, so a build beside the tests cannot
change it under them."""
import atexit
import importlib.machinery
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.environ.get("DROVER_DATA", os.path.join(ROOT, "..", "shared", "data"))
TMP = tempfile.mkdtemp(prefix="drover-test-")
DROVER = os.path.join(TMP, "drover")
SEED = int(os.environ.get("SEED", random.randrange(1 << 31)))
RANDOM = random.Random(SEED)
FAST = {"heartbeat_busy": 0.05, "heartbeat_idle": 0.1, "lease_heartbeats": 4}

_cases, _procs = [], []


class Skip(Exception):
    """A case that cannot run here, and why."""


def case(name):
    """Adds a function to the cases of this file; they run in order."""
    def add(function):
        _cases.append((name, function))
        return function
    return add


def say(text):
    print("# " + text, file=sys.stderr, flush=True)


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def equal(got, wanted, what):
    check(got == wanted, f"{what}: got {short(got)}, wanted {short(wanted)}")


def short(value):
    text = repr(value)
    return text if len(text) < 1500 else text[:1500] + "..."


def clean():
    for proc in _procs:
        if proc.popen.poll() is None:
            proc.popen.send_signal(signal.SIGCONT)
            proc.popen.kill()
            proc.popen.wait()
    shutil.rmtree(TMP, ignore_errors=True)


def run(keep=False):
    """Runs every case and exits: 0 when none failed. keep: the processes of one case serve the next ones too."""
    atexit.register(clean)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chmod(TMP, 0o755)
    shutil.copy(os.path.join(ROOT, os.environ.get("BUILD", "build"), "drover"), DROVER)
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    cases = [c for c in _cases if only in c[0]]
    print(f"1..{len(cases)}", flush=True)
    failed = 0
    for number, (name, function) in enumerate(cases, 1):
        start = time.monotonic()
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except Skip as skip:
            print(f"ok {number} - {name} # SKIP {skip}", flush=True)
        except Exception:  # noqa: B902: whatever it is, it is this case's failure
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
            say(f"{name} (SEED={SEED}):")
            traceback.print_exc()
        while _procs and not keep:
            _procs[-1].forget()
        say(f"{time.monotonic() - start:.1f} s  {name}")
    sys.exit(failed != 0)


# -- waiting ----------------------------------------------------------------------------------------------------------

def until(condition, what, seconds=20, every=0.01):
    """Waits until condition() is true and returns its value; fails after that many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"waited {seconds} s in vain for: {what}")
        time.sleep(every)


# -- files ------------------------------------------------------------------------------------------------------------

_folders = 0


def folder(name="f"):
    """A new empty folder. Short: sockets are made in it."""
    global _folders
    _folders += 1
    path = os.path.join(TMP, f"{name}{_folders}")
    os.mkdir(path)
    os.chmod(path, 0o755)
    return path


def write(path, text):
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def prompts(path, count, first=0):
    lines = [{"id": f"q{i}", "prompt": f"question {i}", "answer": str(i)} for i in range(first, first + count)]
    return write(path, "".join(json.dumps(line) + "\n" for line in lines))


def synthetic(**options):
    return {"name": "m", "backend": "synthetic", "max_tokens": 64,
            "options": {"success": 0.6, "length_mean": 16, "text_bytes": 20, **options}}


def sweep(where, arms, models=None, verifiers=None, name="s", file="sweep.yaml", **keys):
    """Writes a sweep file (JSON is YAML too) beside prompts.jsonl and returns its path."""
    content = {
        "sweep": {"name": name, "seed": 3, "prompts": "prompts.jsonl", "truth": "right", **keys},
        "models": models or [synthetic()],
        "verifiers": verifiers or [{"name": "right", "kind": "exact"}],
        "arms": arms,
    }
    return write(os.path.join(where, file), json.dumps(content, indent=1))


# -- processes --------------------------------------------------------------------------------------------------------

class Proc:
    """A drover process in the background; what it says goes to files."""

    def __init__(self, *args, cwd=None, group=False, **popen):
        number = len(os.listdir(TMP))
        self.args = args
        self.out_path = os.path.join(TMP, f"out-{number}-{time.monotonic_ns()}")
        self.err_path = self.out_path + ".err"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen([DROVER, *args], cwd=cwd or TMP, stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=err, start_new_session=group, **popen)
        self.pid = self.popen.pid
        _procs.append(self)

    def out(self):
        return read(self.out_path).decode(errors="replace")

    def err(self):
        return read(self.err_path).decode(errors="replace")

    def alive(self):
        return self.popen.poll() is None

    def forget(self):
        """Ends it and removes what it said."""
        if self.alive():
            self.popen.send_signal(signal.SIGCONT)
        self.kill()
        _procs.remove(self)
        os.unlink(self.out_path)
        os.unlink(self.err_path)

    def says(self, pattern, seconds=20):
        """Waits for a line on stderr and returns the match."""
        def look():
            found = re.search(pattern, self.err())
            check(found or self.alive(), f"{self.args[0]} ended before it said '{pattern}': {self.err()}")
            return found
        return until(look, f"'{pattern}' from {self.args[0]}; it said: {self.err()}", seconds, every=0.002)

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        if self.alive():
            self.popen.kill()
        self.popen.wait()

    def wait(self, seconds=60):
        """The exit code; fails when it does not come in time."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"drover {' '.join(self.args)} did not end in {seconds} s: {self.err()}") from None


class Done:
    def __init__(self, args, code, out, err):
        self.args, self.code, self.out, self.err = args, code, out, err

    def json(self):
        return json.loads(self.out)


def drover(*args, cwd=None, code=0, seconds=60, **popen):
    """Runs drover to its end; fails when the exit code is not the one expected (None: any but a signal)."""
    done = subprocess.run([DROVER, *args], cwd=cwd or TMP, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds,
                          check=False, **popen)
    result = Done(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    wanted = "no signal" if code is None else code
    check(result.code >= 0 if code is None else result.code == code,
          f"drover {' '.join(args)}: exit code {result.code}, wanted {wanted}; it said: {result.err}")
    return result


def sentence(done):
    """What a refused command says: one line, of one command."""
    lines = [line for line in done.err.splitlines() if line and not line.startswith("state folder ")]
    check(len(lines) == 1 and lines[0].startswith(f"drover {done.args[0]}: ") and len(lines[0]) > 25,
          f"not one sentence: {done.err!r}")
    return lines[0]


# -- what a state folder holds ----------------------------------------------------------------------------------------

def digest(state, name="s"):
    """The two hashes of a sweep's results."""
    return drover("results", name, "--state", state, "--digest").out.strip()


def results(state, name="s"):
    """Lines of results without their timing."""
    lines = [json.loads(line) for line in drover("results", name, "--state", state).out.splitlines()]
    for line in lines:
        line.pop("timing", None)
    return lines


def report(state, name="s"):
    return drover("report", name, "--state", state, "--json").json()


def curve(reported, arm, group="all"):
    for g in reported["groups"]:
        for c in g["curves"]:
            if g["group"] == group and c["arm"] == arm:
                return c
    raise AssertionError(f"the report has no arm {arm} of group {group}")


def bench(name):
    """A program of tests/bench in Python, as a module that runs the drover under test."""
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, "tests", "bench", name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    module.DROVER = DROVER
    return module


def audit(state):
    return drover("audit", "--state", state, "--json", seconds=120).json()


def journal(state):
    """Facts as (commit, name, fields)."""
    facts = []
    for line in drover("journal", "--state", state).out.splitlines():
        commit, name, rest = (line.split(" ", 2) + [""])[:3]
        facts.append((int(commit), name, dict(re.findall(r'(\w+)=("[^"]*"|\S*)', rest))))
    return facts


def count(facts, name):
    return sum(1 for fact in facts if fact[1] == name)


def decisions(where, name):
    """{(arm, prompt): (stop, winner, confidence, why)} of a sweep in a state folder."""
    facts = journal(where)
    sweeps = {fields["id"]: fields["name"].strip('"') for _, kind, fields in facts if kind == "sweep"}
    arms = {fields["id"]: fields["name"].strip('"') for _, kind, fields in facts
            if kind == "arm" and sweeps[fields["sweep"]] == name}
    found = {}
    for _, kind, fields in facts:
        if kind == "decide" and fields["arm"] in arms:
            decided = tuple(fields[key] for key in ("stop", "winner", "confidence", "why"))
            found[arms[fields["arm"]], fields["prompt"]] = decided
    return found


# -- the wire -----------------------------------------------------------------------------------------------------------

def messages():
    """common/msg.def as {name: (number, [(field, type)])}."""
    text = re.sub(r"/\*.*?\*/", "", read(os.path.join(ROOT, "common", "msg.def")).decode(), flags=re.S)
    found = {}
    for number, name, fields in re.findall(r"RECORD\((\d+), (\w+), ((?:\s*\w+\(\w+, \w+\))*)\)", text):
        found[name] = (int(number), [(field, kind) for kind, field in re.findall(r"(\w+)\(\w+, (\w+)\)", fields)])
    check(len(found) > 20 and "hello" in found and "commit" in found, "common/msg.def is not understood")
    return found


def version():
    """The protocol's version, as the headers say."""
    text = read(os.path.join(ROOT, "common", "msg.h")).decode()
    return int(re.search(r"PROTOCOL_VERSION\s*=?\s*(\d+)", text).group(1))


NOTHING = {"U8": 0, "U32": 0, "U64": 0, "I64": 0, "F64": 0.0, "TEXT": "", "BYTES": b""}


class Wire:
    """Encodes and decodes messages by the table that the broker itself is compiled from."""

    def __init__(self):
        import msgpack
        self.msgpack, self.table = msgpack, messages()
        self.names = {number: (name, fields) for name, (number, fields) in self.table.items()}

    def pack(self, name, /, **values):
        number, fields = self.table[name]
        unknown = set(values) - {field for field, _ in fields}
        check(not unknown, f"{name} has no {unknown}")
        return self.msgpack.packb([number] + [values.get(field, NOTHING[kind]) for field, kind in fields])

    def unpack(self, frame):
        """The records of a frame as (name, fields)."""
        found = []
        unpacker = self.msgpack.Unpacker(raw=False, unicode_errors="surrogateescape", max_buffer_size=1 << 27)
        unpacker.feed(frame)
        for record in unpacker:
            name, fields = self.names[record[0]]
            found.append((name, dict(zip((field for field, _ in fields), record[1:]))))
        return found


class Peer:
    """A DEALER of the test's own: an agent or a client that says what it likes."""

    def __init__(self, address, identity=None):
        import zmq
        self.zmq, self.wire = zmq, Wire()
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 3000)  # what was said arrives
        self.socket.setsockopt(zmq.RECONNECT_IVL, 5)
        if identity is not None:
            self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.connect(address)

    def send(self, *records):
        self.raw(b"".join(records))

    def raw(self, *frames):
        try:
            self.socket.send_multipart(frames, self.zmq.DONTWAIT)
        except self.zmq.Again:
            pass

    def say(self, message, /, **values):
        self.send(self.wire.pack(message, **values))

    def receive(self, seconds=5.0):
        """The records of the next frame; none when nothing comes."""
        if not self.socket.poll(seconds * 1000):
            return []
        return self.wire.unpack(self.socket.recv())

    def ask(self, message, /, seconds=5.0, **values):
        """One request of a client and its answer: (name, fields), or None."""
        self.say(message, **values)
        got = self.receive(seconds)
        return got[0] if got else None

    def close(self):
        self.socket.close()


# -- inference servers ------------------------------------------------------------------------------------------------

class Inference:
    """A scripted inference server (see `inference_server`) on a port of its own; settings as keywords."""

    def __init__(self, cert=None, **settings):
        script = write(os.path.join(folder("i"), "script.json"), json.dumps(settings))
        self.scheme = "https" if cert else "http"
        self.start([sys.executable, os.path.join(ROOT, "tests", "integration", "inference_server"), "--script", script] +
                   (["--cert", cert] if cert else []))

    def start(self, args, cwd=None):
        """Starts the program and waits until it prints its port."""
        where = folder("i")
        self.out_path, self.err_path = os.path.join(where, "out"), os.path.join(where, "err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(args, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _procs.append(self)
        found = until(lambda: re.search(r"port=(\d+)", read(self.out_path).decode()) or not self.alive(), "a port", 60)
        check(found is not True, f"the inference server ended: {read(self.err_path).decode()}")
        self.port = int(found.group(1))
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"

    def ask(self, path, body=None, seconds=20):
        """GET, or POST of an object; the answer's JSON."""
        import ssl
        import urllib.request
        data = None if body is None else json.dumps(body).encode()
        tls = ssl._create_unverified_context() if self.scheme == "https" else None
        with urllib.request.urlopen(self.url + path, data, timeout=seconds, context=tls) as answer:
            return json.load(answer)

    def script(self, **settings):
        self.ask("/script", settings)

    def stats(self):
        return self.ask("/stats")

    def requests(self, path=None):
        """What was generated: id, prompt, seed, raw body, answers with their log-probabilities."""
        return [r for r in self.ask("/requests") if path in (None, r["path"])]

    def alive(self):
        return self.popen.poll() is None

    def forget(self):
        if self.alive():
            self.popen.kill()
        self.popen.wait()
        _procs.remove(self)


# -- a broker and its agents ------------------------------------------------------------------------------------------

class Cluster:
    """A broker on a port of its own, restarted at the same addresses; workers and verifiers that know them."""

    def __init__(self, where=None, **conf):
        self.where = where or folder("c")
        self.state = os.path.join(self.where, "state")
        self.clients = f"ipc://{self.where}/clients"
        self.conf = os.path.join(self.where, "cluster.conf")
        self.keys = {**FAST, "listen": "tcp://127.0.0.1:*", "clients": self.clients, "state": self.state, **conf}
        self.write_conf()
        self.broker = None

    def write_conf(self):
        write(self.conf, "".join(f"{key}: {json.dumps(value)}\n" for key, value in self.keys.items()))

    def start(self, *args, **popen):
        self.broker = Proc("broker", "--conf", self.conf, *args, cwd=self.where, **popen)
        self.listen = self.broker.says(r"agents=(\S+)").group(1)
        if self.keys["listen"] != self.listen:
            self.keys["listen"] = self.listen
            self.write_conf()
        return self

    def worker(self, name, *args, role="worker", **popen):
        return Proc(role, "--conf", self.conf, "--name", name, *args, cwd=self.where, **popen)

    def verifier(self, name, *args, **popen):
        return self.worker(name, *args, role="verifier", **popen)

    def ask(self, *args, code=0):
        return drover(*args, "--conf", self.conf, cwd=self.where, code=code)

    def submit(self, file, *args):
        return self.ask("submit", file, *args).out.strip()

    def status(self, name="s"):
        return next(s for s in self.ask("status", "--json").json()["sweeps"] if s["name"] == name)

    def waits_for(self, text, name="s", seconds=20):
        """Waits until the sweep says that it waits for this."""
        last = ""

        def look():
            nonlocal last
            last = self.status(name)["waits_for"]
            return text in last
        try:
            until(look, text, seconds)
        except AssertionError:
            raise AssertionError(f"sweep {name} never waited for '{text}', but for '{last}'") from None

    def workers(self):
        return {w["name"]: w for w in self.ask("workers", "--json").json()["workers"]}

    def finish(self, name="s", seconds=60):
        """Waits until a sweep is done, and checks its audit."""
        last = {}

        def look():
            nonlocal last
            last = self.status(name)
            check(last["state"] in ("running", "done"), f"sweep {name} is {last['state']}: {last['reason']}")
            return last["state"] == "done"
        try:
            until(look, "the end", seconds, every=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}; it waits for: {last['waits_for']}") from None
        return last

    def stop(self):
        self.broker.signal(signal.SIGTERM)
        equal(self.broker.wait(), 0, "exit code of the broker")
