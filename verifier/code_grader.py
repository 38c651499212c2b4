# Holds the tests and decides, in a sandbox of its own; the program of the rollout runs in another, behind calls. What
# comes back from there is data and is built up here from nothing but Python's own types, so an object of the program
# can answer no comparison. See check_code.c.
import builtins
import json
import marshal
import os
import sys

TAKE, GIVE = os.dup(0), os.dup(1)
DEPTH, PROGRAMS = 200, 256


class Gone(BaseException):
    """The program ended, or answered nonsense. Not an Exception: tests may catch those."""


class Unfit(BaseException):
    """The test asks for what a program behind calls cannot give."""


class Thing:
    """An object of the program that is no data: equal to nothing but itself."""

    def __init__(self, kind):
        self.kind = kind

    def __repr__(self):
        return f"<{self.kind} of the program>"


class Items:
    """What can be gone through once: a generator, a map, a view."""

    def __init__(self, items):
        self.iter = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.iter)


class Function:
    def __init__(self, name):
        self.name = name

    def __call__(self, *args, **kwargs):
        return call(self.name, args, kwargs)

    def __getattr__(self, name):
        raise Unfit(f"the test uses {self.name}.{name} and does not import it")


def receive():
    def exactly(size):
        parts = []
        while size > 0:
            part = os.read(TAKE, size)
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
    return exactly(int.from_bytes(exactly(4), "big"))


def send(message):
    message = len(message).to_bytes(4, "big") + message
    while message:
        message = message[os.write(GIVE, message):]


def decode(data):
    at = 1

    def upto():
        nonlocal at
        end = data.index(b";", at, at + (1 << 20))
        text = data[at:end].decode("ascii")
        at = end + 1
        return text

    def some():
        nonlocal at
        size = int(upto(), 16)
        if size < 0 or size > len(data) - at:
            raise ValueError("a size that cannot be")
        at += size
        return data[at - size:at]

    def items(depth):
        size = int(upto(), 16)
        if size < 0 or size > len(data) - at:
            raise ValueError("a size that cannot be")
        return [value(depth + 1) for _ in range(size)]

    def pairs(depth):
        size = int(upto(), 16)
        if size < 0 or size > len(data) - at:
            raise ValueError("a size that cannot be")
        return [(value(depth + 1), value(depth + 1)) for _ in range(size)]

    kinds = {
        b"N": lambda depth: None,
        b"T": lambda depth: True,
        b"F": lambda depth: False,
        b"i": lambda depth: int(upto(), 16),
        b"f": lambda depth: float.fromhex(upto()),
        b"c": lambda depth: complex(float.fromhex(upto()), float.fromhex(upto())),
        b"s": lambda depth: some().decode("utf-8", "surrogatepass"),
        b"b": lambda depth: some(),
        b"o": lambda depth: Thing(some().decode("utf-8", "replace")[:60]),
        b"r": lambda depth: range(int(upto(), 16), int(upto(), 16), int(upto(), 16)),
        b"l": items,
        b"t": lambda depth: tuple(items(depth)),
        b"S": lambda depth: set(items(depth)),
        b"z": lambda depth: frozenset(items(depth)),
        b"I": lambda depth: Items(items(depth)),
        b"d": lambda depth: dict(pairs(depth)),
    }

    def value(depth):
        nonlocal at
        if depth > DEPTH:
            raise ValueError("too deep")
        kind = data[at:at + 1]
        at += 1
        return kinds[kind](depth)

    result = value(0)
    if at != len(data):
        raise ValueError("more than one value")
    return result


def error_of(data):
    name, _, text = data[1:].decode("utf-8", "replace").partition("\0")
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    error = kind.__new__(kind)
    error.args = (f"{name}: {text}",)
    return error


def foreign(value):
    if isinstance(value, (Thing, Items)):
        return True
    if isinstance(value, dict):
        return any(foreign(k) or foreign(v) for k, v in value.items())
    return isinstance(value, (list, tuple, set, frozenset)) and any(foreign(v) for v in value)


class State:
    calls = 0      # of this job
    broken = None  # why the program is of no more use


def call(name, args, kwargs):
    if State.broken is not None:
        raise Gone
    try:
        message = marshal.dumps((name, args, kwargs), 4)
    except ValueError:
        if foreign(args) or foreign(list(kwargs.values())):
            State.broken = "the program returned what is no data"
            raise Gone from None
        raise Unfit(f"an argument of {name} is no plain data") from None
    State.calls += 1
    send(b"C" + message)
    answer = receive()
    if answer[:1] == b"V":
        try:
            return decode(answer)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, MemoryError):
            State.broken = "the program returned what cannot be read"
            raise Gone from None
    if answer[:1] == b"E":
        raise error_of(answer)
    State.broken = "the program ended before its tests"
    raise Gone


# -- tests ------------------------------------------------------------------------------------------------------------

_compiled = {}


def compiled(text):
    if text not in _compiled:
        if len(_compiled) >= PROGRAMS:
            _compiled.clear()
        _compiled[text] = compile(text, "test", "exec")
    return _compiled[text]


def names(code):
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            found |= names(constant)
    return found


def assertion(job, space):
    """A function check(candidate) of asserts; what the prompt defines besides is there, the function itself is not."""
    function = Function(job["entry_point"])
    try:
        exec(compiled(job["setup"]), space)
    except Exception:
        pass  # a prompt in plain words
    space[job["entry_point"]] = function
    exec(compiled(job["tests"]), space)
    space[job["entry_point"]] = function
    yield lambda: space["check"](function)


def statements(job, space):
    """A list of statements; names that they do not define are the program's."""
    codes = [compiled(text) for text in [job["setup"]] + job["tests"]]
    for code in codes:
        for name in names(code):
            if not hasattr(builtins, name):
                space[name] = Function(name)
    exec(codes[0], space)
    for code in codes[1:]:
        yield lambda: exec(code, space)


def plain(value):
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def pairs(job, _space):
    """Arguments and what must come back, as JSON can say it: a tuple is a list."""
    function = Function(job["entry_point"])

    def one(test):
        given = test["input"]
        got = plain(function(**given) if isinstance(given, dict) else function(*given))
        wanted = plain(test["output"])
        assert got == wanted and isinstance(got, bool) == isinstance(wanted, bool)
    for test in job["tests"]:
        yield lambda: one(test)


STYLES = {"humaneval": assertion, "mbpp": statements, "functional": pairs}


def where(error, text):
    """The line of the test that failed."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "test":
            line = trace.tb_lineno
        trace = trace.tb_next
    lines = text.splitlines()
    return lines[line - 1].strip()[:300] if 0 < line <= len(lines) else ""


def text_of(job, number):
    tests = job["tests"]
    if isinstance(tests, str):
        return tests
    return tests[number] if number < len(tests) and isinstance(tests[number], str) else ""


def grade(job):
    State.calls, State.broken, number = 0, None, 0
    try:
        for test in STYLES[job["style"]](job, {"__name__": "tests"}):
            test()
            number += 1
    except Unfit as error:
        return {"outcome": "error", "why": "test", "text": str(error)[:300], "test": number}
    except BaseException as error:
        if State.broken is not None:
            return {"outcome": "fail", "why": "ended", "text": State.broken, "test": number}
        if State.calls == 0:
            return {"outcome": "error", "why": "test", "text": f"{type(error).__name__}: {error}"[:300], "test": number}
        why = ("assert" if isinstance(error, AssertionError) else
               "memory" if isinstance(error, MemoryError) else "exception")
        return {"outcome": "fail", "why": why, "text": f"{type(error).__name__}: {error}"[:300] if why != "assert" else "",
                "test": number, "line": where(error, text_of(job, number))}
    if State.broken is not None:  # a test that caught even that
        return {"outcome": "fail", "why": "ended", "text": State.broken, "test": number}
    if State.calls == 0:
        return {"outcome": "error", "why": "test", "text": "the tests call nothing", "test": number}
    return {"outcome": "pass", "tests": number, "calls": State.calls}


def main():
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    while True:
        message = receive()
        if message[:1] == b"P":  # what answers the calls, compiled once for all programs by their own interpreter
            send(b"P" + marshal.dumps(compile(message[1:], "candidate", "exec")))
        elif message[:1] == b"J":
            send(b"V" + json.dumps(grade(json.loads(message[1:]))).encode())


main()
