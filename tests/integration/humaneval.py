"""HumanEval with the recorded programs of CodeGen-16B, as prompts and a recording that `replay` reads.

The programs come from codet-humaneval-codegen16b-100 of $DROVER_DATA, tests and names of functions from
problem-sets/HumanEval.jsonl.gz there. They are untrusted: nothing but the sandbox runs them."""
import gzip
import json
import os
import re

from drovertest import DATA, Skip, write

PROBLEMS = os.path.join(DATA, "problem-sets", "HumanEval.jsonl.gz")
SAMPLES = os.path.join(DATA, "codet-humaneval-codegen16b-100",
                       "HumanEval_codegen16B_temp0.8_topp0.95_num100_max300_code_solution.jsonl")
MODEL = "codegen-16b"

# Where a generator of functions is told to stop; the recording went on to 300 tokens. As its authors evaluated it.
STOPS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]


def completion(text):
    for stop in STOPS:
        at = text.find(stop)
        if at >= 0:
            text = text[:at]
    return text


def tasks_of():
    if not (os.path.exists(PROBLEMS) and os.path.exists(SAMPLES)):
        raise Skip("the recorded data is not there: set DROVER_DATA to the folder that holds "
                   "codet-humaneval-codegen16b-100 and problem-sets")
    with gzip.open(PROBLEMS, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def canonical():
    """The solutions of the benchmark's authors, by task."""
    return [(task["task_id"], task["canonical_solution"]) for task in tasks_of()]


def recorded(task, rows):
    """The programs of a task. The recording has another order and shortened prompts, and six names are used twice."""
    def likeness(row):
        pair = [" ".join(text.split("def " + task["entry_point"])[-1].split()) for text in (row["prompt"], task["prompt"])]
        return len(os.path.commonprefix(pair))
    same = [row for row in rows if re.findall(r"^def (\w+)", row["prompt"], re.M)[-1] == task["entry_point"]]
    return max(same, key=likeness)["samples"]


def join(where, problems=None, samples=100):
    """Writes prompts.jsonl, recording.jsonl and sweep.yaml; how many prompts. problems: so many, evenly; None: all."""
    tasks = tasks_of()
    with open(SAMPLES, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    if problems is not None:
        tasks = tasks[::len(tasks) // problems][:problems]
    programs = [recorded(task, rows) for task in tasks]
    if len({id(p) for p in programs}) != len(tasks):
        raise AssertionError("two tasks got the same recorded programs")
    prompts, recording = [], []
    for task, texts in zip(tasks, programs):
        prompts.append({"id": task["task_id"], **{key: task[key] for key in ("prompt", "test", "entry_point")}})
        for ordinal, text in enumerate(texts[:samples]):
            recording.append({"prompt": task["task_id"], "ordinal": ordinal, "text": completion(text)})
    for name, lines in ("prompts.jsonl", prompts), ("recording.jsonl", recording):
        write(os.path.join(where, name), "".join(json.dumps(row) + "\n" for row in lines))
    write(os.path.join(where, "sweep.yaml"), f"""
sweep: {{name: humaneval, prompts: prompts.jsonl, truth: tests}}
models:
  - {{name: {MODEL}, backend: replay, path: {where}/recording.jsonl, max_tokens: 1024, answer: none}}
verifiers:
  - {{name: tests, kind: code, style: humaneval, cpu: 2, memory: 512, timeout: 20}}
arms:
  - {{name: coverage, n: {samples}, select: first-pass, verifier: tests}}
""")
    return len(tasks)
