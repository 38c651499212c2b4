#!/usr/bin/env python3
"""Makes the language model that drover embeds: tasks, model, training, export, evaluation, in one file.

  train-tinylm.py problems --countdown 60 --chain 40 --seed 5 > demo/problems.jsonl
  train-tinylm.py train --minutes 40 --out tiny.pt        (needs Debian's python3-torch)
  train-tinylm.py export tiny.pt models/tiny.tlm
  train-tinylm.py evaluate tiny.pt --samples 64
  train-tinylm.py selftest                                (tasks and file format; needs no torch)

Two tasks with exact verifiers, written in 39 characters:

  countdown  "C24:3,5,7,9\\n", then a line "a?b=c;rest\\n" per step (no rest on the last). Every number is used once,
             the larger operand first, all values are whole numbers in 1..99, and the last c is the target.
  chain      "A7*8+35-16\\n", strictly left to right, a line "a?b=c\\n" per step, then "#75\\n". Values in 0..999.

Prompts whose hash (of the text with its newline) is divisible by 50 are held out: training never sees them.
"""
import argparse
import json
import math
import os
import random
import re
import struct
import sys
import time
import zlib

VOCAB = ["<pad>", "^", "$"] + list("\n0123456789+-*/=,;:>#CA ()?|.%&xyzabcde")
ID_OF = {text: i for i, text in enumerate(VOCAB)}
PAD, BOS, EOS = 0, 1, 2
SHAPE = dict(vocab=len(VOCAB), dim=128, layers=4, heads=4, ff=352, ctx=160, theta=10000.0, eps=1e-5)


# --- tasks ---

def encode(text):
    return [ID_OF[c] for c in text]


def decode(ids):
    return "".join(VOCAB[i] for i in ids if i > EOS)


def held_out(prompt):
    """prompt: with its newline."""
    return zlib.crc32(prompt.encode()) % 50 == 0


def apply(op, a, b):
    """None where the division leaves a rest."""
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    if op == "*":
        return a * b
    return a // b if b and a % b == 0 else None


def legal_ops(a, b):
    """a >= b; results stay in 1..99, and nothing is multiplied or divided by 1."""
    ops = []
    if a + b <= 99:
        ops.append("+")
    if a > b:
        ops.append("-")
    if b > 1:
        if a * b <= 99:
            ops.append("*")
        if a % b == 0:
            ops.append("/")
    return ops


def countdown(rng, size):
    """A random way from numbers to a target: (prompt, solution), so every target can be reached."""
    while True:
        numbers = [rng.randint(1, 20) for _ in range(size)]
        left, lines = list(numbers), []
        while len(left) > 1:
            i, j = rng.sample(range(len(left)), 2)
            a, b = max(left[i], left[j]), min(left[i], left[j])
            ops = legal_ops(a, b)
            if not ops:
                break
            op = rng.choice(ops)
            c = apply(op, a, b)
            left = [x for k, x in enumerate(left) if k not in (i, j)] + [c]
            rest = ";" + ",".join(map(str, left)) if len(left) > 1 else ""
            lines.append(f"{a}{op}{b}={c}{rest}\n")
        if len(left) == 1 and left[0] >= 10:
            return f"C{left[0]}:{','.join(map(str, numbers))}\n", "".join(lines)


def chain(rng, size):
    value = rng.randint(2, 99)
    prompt, lines = f"A{value}", []
    for _ in range(size):
        while True:
            op = rng.choice("++--*")
            other = rng.randint(2, 9) if op == "*" else rng.randint(2, 99)
            after = apply(op, value, other)
            if 0 <= after <= 999:
                break
        prompt += f"{op}{other}"
        lines.append(f"{value}{op}{other}={after}\n")
        value = after
    return prompt + "\n", "".join(lines) + f"#{value}\n"


def training_trace(rng):
    while True:
        if rng.random() < 0.65:
            trace = countdown(rng, rng.choices((3, 4, 5), (25, 45, 30))[0])
        else:
            trace = chain(rng, rng.randint(3, 9))
        if not held_out(trace[0]):
            return trace


def chain_value(prompt):
    parts = re.findall(r"\d+|[-+*]", prompt[1:])
    value = int(parts[0])
    for op, other in zip(parts[1::2], parts[2::2]):
        value = apply(op, value, int(other))
    return value


STEP = re.compile(r"(\d{1,3})([-+*/])(\d{1,3})=(\d{1,3})(?:;([\d,]+))?")


def countdown_right(prompt, text):
    """Every line is exact, uses numbers that are left, and names what is left; the last one is the target."""
    target, numbers = prompt[1:-1].split(":")
    left = [int(x) for x in numbers.split(",")]
    for line in text.split("\n")[:-1]:
        m = STEP.fullmatch(line)
        if not m:
            return False
        a, b, c = int(m[1]), int(m[3]), int(m[4])
        for x in (a, b):
            if x not in left:
                return False
            left.remove(x)
        if apply(m[2], a, b) != c:
            return False
        left.append(c)
        rest = sorted(m[5].split(",")) if m[5] else []
        if rest != (sorted(map(str, left)) if len(left) > 1 else []):
            return False
    return left == [int(target)]


def right(prompt, text):
    """Verdict on a finished text. A chain is judged by its answer alone."""
    if prompt[0] == "C":
        return countdown_right(prompt, text)
    m = re.search(r"#(\d+)\n?$", text)
    return bool(m) and int(m[1]) == chain_value(prompt)


def reachable(target, numbers):
    """Whether some way uses all numbers, with values in 1..99: exhaustive, for up to five numbers."""
    if len(numbers) == 1:
        return numbers[0] == target
    for i in range(len(numbers)):
        for j in range(i):
            a, b = max(numbers[i], numbers[j]), min(numbers[i], numbers[j])
            rest = [x for k, x in enumerate(numbers) if k not in (i, j)]
            if any(reachable(target, rest + [apply(op, a, b)]) for op in legal_ops(a, b)):
                return True
    return False


def held_out_problem(rng, make, size, seen):
    while True:
        prompt, _ = make(rng, size)
        if held_out(prompt) and prompt not in seen:
            seen.add(prompt)
            return prompt


def problems(countdowns, chains, seed):
    """Held-out prompts as records: countdowns of 3, 4, 5 numbers and chains of 3..9 operations in turn."""
    rng, seen, count = random.Random(seed), set(), {}
    plan = [("countdown", 3 + i % 3) for i in range(countdowns)] + [("chain", 3 + i % 7) for i in range(chains)]
    for task, size in plan:
        prompt = held_out_problem(rng, countdown if task == "countdown" else chain, size, seen)
        count[task, size] = count.get((task, size), 0) + 1
        answer = prompt[1:].split(":")[0] if task == "countdown" else str(chain_value(prompt))
        letter = "c" if task == "countdown" else "a"
        yield dict(id=f"{letter}{size}-{count[task, size]:02d}", prompt=prompt[:-1], answer=answer,
                   meta=dict(task=task, size=size))


# --- the file ---

def tlm_header(shape, hidden=0):
    """Everything before the weights; models/README.md describes the format."""
    words = b"".join(bytes([len(w.encode())]) + w.encode() for w in VOCAB)
    sizes = [shape[k] for k in ("vocab", "dim", "layers", "heads", "ff", "ctx")] + [hidden, len(words)]
    head = b"TLM1\0\0\0\0" + struct.pack("<8i2f", *sizes, shape["theta"], shape["eps"]) + words
    return head + b"\0" * (-len(head) % 64)


def tlm_floats(shape):
    dim, ff = shape["dim"], shape["ff"]
    return 2 * shape["vocab"] * dim + shape["layers"] * (2 * dim + 4 * dim * dim + 3 * dim * ff) + dim


def tensors(weights, layers):
    """The checkpoint's tensors in the order of the file; q, k, v and gate, up are stored together in both."""
    yield weights["emb.weight"]
    for i in range(layers):
        for name in ("norm1", "qkv", "out", "norm2", "gate_up", "down"):
            yield weights[f"blocks.{i}.{name}.weight"]
    yield weights["norm.weight"]
    yield weights["out.weight"]


def export(checkpoint, path):
    data = b"".join(t.float().contiguous().numpy().astype("<f4").tobytes()
                    for t in tensors(checkpoint["weights"], checkpoint["shape"]["layers"]))
    assert len(data) == 4 * tlm_floats(checkpoint["shape"])
    with open(path, "wb") as out:
        out.write(tlm_header(checkpoint["shape"]) + data)


# --- the model: llama architecture. torch is imported late, since the tasks do not need it ---

def make_model(shape):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(shape["dim"]))

        def forward(self, x):
            x = x.float()
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + shape["eps"]) * self.weight

    def rotate(x, cos, sin):
        """Interleaved pairs; x is batch, heads, positions, width."""
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            dim, ff = shape["dim"], shape["ff"]
            self.norm1, self.norm2 = Norm(), Norm()
            self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
            self.gate_up = nn.Linear(dim, 2 * ff, bias=False)
            self.down = nn.Linear(ff, dim, bias=False)

        def forward(self, x, cos, sin, mask):
            batch, length, dim = x.shape
            heads = shape["heads"]
            q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, heads, dim // heads) \
                .permute(2, 0, 3, 1, 4).unbind(0)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(dim // heads) + mask
            mixed = torch.matmul(torch.softmax(scores.float(), -1).to(v.dtype), v)
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
            gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            dim, width = shape["dim"], shape["dim"] // shape["heads"]
            self.emb = nn.Embedding(shape["vocab"], dim)
            self.blocks = nn.ModuleList([Block() for _ in range(shape["layers"])])
            self.norm, self.out = Norm(), nn.Linear(dim, shape["vocab"], bias=False)
            speed = shape["theta"] ** (-torch.arange(0, width, 2).float() / width)
            angle = torch.outer(torch.arange(shape["ctx"]).float(), speed)
            self.register_buffer("cos", angle.cos(), False)
            self.register_buffer("sin", angle.sin(), False)
            for name, p in self.named_parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, 0, self.spread(name, p.shape[1]))

        @staticmethod
        def spread(name, inputs):
            if name.startswith(("emb", "out")):
                return 0.02
            last = name.endswith(("out.weight", "down.weight"))  # these add to the residual stream
            return (0.5 / math.sqrt(shape["layers"]) if last else 0.7) / math.sqrt(inputs)

        def forward(self, ids):
            length = ids.shape[1]
            mask = torch.full((length, length), float("-inf")).triu(1)
            x = self.emb(ids)
            for block in self.blocks:
                x = block(x, self.cos[:length], self.sin[:length], mask)
            return self.out(self.norm(x))

    return Model()


# --- training ---

def batches(rng, size):
    """(ids, mask of the completion), with traces of like length together."""
    import torch
    while True:
        traces = [training_trace(rng) for _ in range(size * 16)]
        rows = [([BOS] + encode(prompt), encode(text) + [EOS]) for prompt, text in traces]
        rows.sort(key=lambda r: len(r[0]) + len(r[1]))
        groups = [rows[i:i + size] for i in range(0, len(rows), size)]
        rng.shuffle(groups)
        for group in groups:
            longest = max(len(p) + len(t) for p, t in group)
            ids = torch.full((len(group), longest), PAD, dtype=torch.long)
            mask = torch.zeros(len(group), longest)
            for i, (p, t) in enumerate(group):
                ids[i, :len(p) + len(t)] = torch.tensor(p + t)
                mask[i, len(p):len(p) + len(t)] = 1
            yield ids, mask


def loss_of(model, ids, mask, bf16):
    import torch
    from torch.nn import functional as F
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(ids[:, :-1])
    each = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weight = mask[:, 1:].flatten()
    return (each * weight).sum() / weight.sum()


def learning_rate(peak, step, share):
    """Warm-up over 200 steps, level for 40 % of the time, then a cosine down to 2 %."""
    fall = 1.0 if share < 0.4 else 0.02 + 0.49 * (1 + math.cos(math.pi * (share - 0.4) / 0.6))
    return peak * min(1, (step + 1) / 200) * fall


class Averager:
    """Workers average their weights with shared ones now and then, without waiting for each other."""

    def __init__(self, model):
        import torch.multiprocessing as mp
        from torch.nn.utils import parameters_to_vector
        self.shared = parameters_to_vector(model.parameters()).detach().clone().share_memory_()
        self.lock = mp.Lock()

    def mix(self, model):
        import torch
        from torch.nn.utils import parameters_to_vector, vector_to_parameters
        with self.lock, torch.no_grad():
            self.shared.mul_(0.5).add_(parameters_to_vector(model.parameters()), alpha=0.5)
            vector_to_parameters(self.shared.clone(), model.parameters())


def optimizer_of(model, rate):
    import torch
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [dict(params=matrices, weight_decay=0.05), dict(params=vectors, weight_decay=0)]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def train_worker(args, model, averager, rank):
    import torch
    torch.set_num_threads(1)
    optimizer, start, mean, tokens = optimizer_of(model, args.lr), time.time(), None, 0
    for step, (ids, mask) in enumerate(batches(random.Random(args.seed * 1000 + rank), args.batch)):
        share = (time.time() - start) / (60 * args.minutes)
        if share >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args.lr, step, share)
        loss = loss_of(model, ids, mask, not args.fp32)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if args.workers > 1 and step % 10 == 9:
            averager.mix(model)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        tokens += ids.numel()
        if rank == 0 and step % 100 == 0:
            rate = tokens / (time.time() - start)
            print(f"step={step} share={share:.3f} loss={mean:.4f} tokens_per_s={rate:.0f}", flush=True)


def train(args):
    import torch
    torch.manual_seed(args.seed)
    model = make_model(SHAPE)
    print(f"parameters={sum(p.numel() for p in model.parameters())}", flush=True)
    averager, children, rank = Averager(model), [], 0
    for r in range(1, args.workers):
        child = os.fork()
        if child == 0:
            rank = r
            break
        children.append(child)
    steps = train_worker(args, model, averager, rank)
    if rank != 0:
        averager.mix(model)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    if args.workers > 1:
        averager.mix(model)
    torch.save(dict(shape=SHAPE, weights=model.state_dict(), steps=steps), args.out)


# --- evaluation ---

def pass_at(n, c, k):
    """Unbiased: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, section 2.1)."""
    if n - c < k:
        return 1.0
    return 1.0 - math.prod((n - c - i) / (n - i) for i in range(k))


def sample(model, prompt, count, temperature):
    """Texts of one prompt, all in one batch. Plain, without a cache: the engine in C is what is fast."""
    import torch
    ids = torch.tensor([[BOS] + encode(prompt)] * count)
    done = torch.zeros(count, dtype=torch.bool)
    start = ids.shape[1]
    with torch.no_grad():
        while ids.shape[1] < SHAPE["ctx"] and not bool(done.all()):
            logits = model(ids)[:, -1].float()
            chosen = torch.multinomial(torch.softmax(logits / temperature, -1), 1)
            chosen[done] = PAD
            ids = torch.cat((ids, chosen), 1)
            done |= chosen[:, 0] == EOS
    return [decode(row[start:].tolist()) for row in ids]


def evaluate(args):
    import torch
    checkpoint = torch.load(args.checkpoint)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    model = make_model(checkpoint["shape"])
    model.load_state_dict(checkpoint["weights"])
    model.eval()
    counts = {}
    for p in problems(args.countdown, args.chain, args.seed):
        prompt = p["prompt"] + "\n"
        good = sum(right(prompt, t) for t in sample(model, prompt, args.samples, args.temperature))
        for group in ("all", p["meta"]["task"], f"{p['meta']['task']}-{p['meta']['size']}"):
            counts.setdefault(group, []).append(good)
    ks = [2 ** i for i in range(20) if 2 ** i <= args.samples]
    for group, goods in sorted(counts.items()):
        rates = (sum(pass_at(args.samples, c, k) for c in goods) / len(goods) for k in ks)
        print(f"{group} prompts={len(goods)}", " ".join(f"pass@{k}={r:.3f}" for k, r in zip(ks, rates)))


# --- commands ---

def selftest():
    rng, longest = random.Random(1), 0
    for _ in range(2000):
        prompt, text = training_trace(rng)
        assert right(prompt, text), (prompt, text)
        assert not right(prompt, text.replace("\n", "1\n"))
        assert decode(encode(prompt + text)) == prompt + text
        longest = max(longest, len(prompt + text) + 2)
    assert longest <= SHAPE["ctx"] + 1, longest
    for p in problems(30, 21, 5):
        assert held_out(p["prompt"] + "\n")
        if p["meta"]["task"] == "countdown":
            numbers = [int(x) for x in p["prompt"].split(":")[1].split(",")]
            assert len(numbers) == p["meta"]["size"] and reachable(int(p["answer"]), numbers), p
        else:
            assert right(p["prompt"] + "\n", f"#{p['answer']}\n"), p
    assert len(tlm_header(SHAPE)) == 192 and tlm_floats(SHAPE) == 814720
    assert abs(pass_at(4, 1, 2) - 0.5) < 1e-12 and pass_at(4, 3, 2) == 1.0
    print("selftest: ok")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    held = commands.add_parser("problems", help="print held-out problems, one JSON object a line")
    made = commands.add_parser("train", help="train for a time; another run gives other weights")
    made.add_argument("--minutes", type=float, default=40)
    made.add_argument("--lr", type=float, default=2.5e-3)
    made.add_argument("--batch", type=int, default=40)
    made.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    made.add_argument("--fp32", action="store_true", help="no bfloat16")
    made.add_argument("--out", default="tiny.pt")
    sent = commands.add_parser("export", help="write a checkpoint as a TLM1 file")
    sent.add_argument("checkpoint")
    sent.add_argument("path")
    judged = commands.add_parser("evaluate", help="unbiased pass@k on held-out problems")
    judged.add_argument("checkpoint")
    judged.add_argument("--samples", type=int, default=64)
    judged.add_argument("--temperature", type=float, default=1.0)
    for p in (held, judged):
        p.add_argument("--countdown", type=int, default=60)
        p.add_argument("--chain", type=int, default=40)
    for p in (held, made, judged):
        p.add_argument("--seed", type=int, default=5)
    commands.add_parser("selftest", help="check tasks and format, without torch")
    return parser.parse_args()


def main():
    args = arguments()
    if args.command == "problems":
        for p in problems(args.countdown, args.chain, args.seed):
            print(json.dumps(p, separators=(",", ":")))
    elif args.command == "selftest":
        selftest()
    elif args.command == "train":
        train(args)
    elif args.command == "evaluate":
        evaluate(args)
    elif args.command == "export":
        import torch
        export(torch.load(args.checkpoint), args.path)


if __name__ == "__main__":
    sys.exit(main())
