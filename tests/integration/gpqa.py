"""Recorded GPQA-Diamond rollouts of many models over the same prompts, and what allocators reach on them.

The set is made hard: of 198 questions the ones that half of the runs solve least; the other half are those that are sampled,
and that priors come from. So no question is chosen by what is measured."""
import collections
import csv
import json
import os

from drovertest import DATA, Skip, curve, drover, folder, report, sweep, write

CSV = os.path.join(DATA, "epoch-gpqa-diamond", "gpqa_diamond.csv")
N, HARD = 8, 40


def load():
    """Runs by accuracy: (model, {prompt: [right or not, ...]}); prompts with an ungraded rollout are left out."""
    if not os.path.exists(CSV):
        raise Skip("the recorded data is not there: set DROVER_DATA to the folder that holds epoch-gpqa-diamond")
    runs, ungraded = collections.defaultdict(lambda: collections.defaultdict(list)), set()
    with open(CSV, newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            if row["correct"] == "":
                ungraded.add((row["run_id"], row["sample_id"]))
            else:
                runs[row["run_id"]][row["sample_id"]].append(row["correct"] == "1")
    for run, prompt in ungraded:
        runs[run].pop(prompt, None)
    with open(CSV.replace(".csv", ".runs.csv"), newline="", encoding="utf-8") as f:
        about = {row["run_id"]: (float(row["accuracy"]), row["run_id"], row["model"]) for row in csv.DictReader(f)}
    return [(about[run][0], about[run][2].split("-20")[0], runs[run]) for run in sorted(runs, key=about.get)]


def hardest(runs, count=HARD):
    """Prompts by the mean rate of these runs, the least first."""
    rates = collections.defaultdict(list)
    for _, _, rows in runs:
        for prompt, right in rows.items():
            rates[prompt].append(sum(right) / len(right))
    return sorted(rates, key=lambda p: (sum(rates[p]) / len(rates[p]), p))[:count]


def nearest(target, runs, count=4):
    """Runs of other models, those of the nearest accuracy first."""
    return sorted((run for run in runs if run[1] != target[1]), key=lambda run: abs(run[0] - target[0]))[:count]


def covers(right, n):
    """Chance that one of n of these rollouts is right."""
    missed = 1.0
    for i in range(n):
        missed *= max(0, len(right) - sum(right) - i) / (len(right) - i)
    return 1 - missed


def oracle(rows, budget):
    """Share of prompts solved by who knows each prompt's rate, and serves by falling rate until solved; rollouts of each."""
    solved = used = 0
    for right in sorted(rows.values(), key=lambda right: -sum(right)):
        cost = right.index(True) + 1 if any(right) else 0
        if cost == 0 or used + cost > budget:
            break
        used += cost
        solved += 1
    return solved / len(rows), used / len(rows)


def recorded(target, questions, sources, prefix=""):
    """Of one run on these questions: {prompt: its outcomes}, and counts of the sources to believe."""
    rows = {prefix + q: target[2][q][:N] for q in questions if len(target[2].get(q, [])) >= N}
    counts = [{"prompt": prefix + q, "passes": sum(source[2][q]), "n": len(source[2][q])}
              for source in sources for q in questions if prefix + q in rows and q in source[2]]
    return rows, counts


def pairs(runs, count, sources):
    """As recorded, of all runs: a prompt is a run and a question. Each half of the runs has the questions that the other half
    solves least, and its beliefs from runs of its own half."""
    rows, counts = {}, []
    for half in 0, 1:
        sampled = runs[half::2]
        for number, target in enumerate(sampled):
            found = recorded(target, hardest(runs[1 - half::2], count), nearest(target, sampled, sources), f"{half}-{number}-")
            rows.update(found[0])
            counts += found[1]
    return rows, counts


def arms_of(means, strengths, prompts):
    covers = {"n": N, "verifier": "right", "select": "first-pass", "order": "strict", "lookahead": 1}
    arms = [{"name": "all", **covers}, {"name": "elimination", "allocate": "elimination", **covers}]
    for mean in means:
        one = {**covers, "budget": {"rollouts": mean * prompts}}
        arms.append({"name": f"elimination-{mean}", "allocate": "elimination", **one})
        arms += [{"name": f"prior-{strength:g}-{mean}", "allocate": "marginal-gain",
                  "prior": {"from": "counts.jsonl", "strength": strength}, **one} for strength in strengths]
    return arms


def swept(rows, counts, means, strengths):
    """The report of a sweep over recorded rollouts, and its folder."""
    where = folder()
    write(f"{where}/prompts.jsonl",
          "".join(json.dumps({"id": p, "prompt": f"GPQA {p}", "answer": "right"}) + "\n" for p in rows))
    write(f"{where}/counts.jsonl", "".join(json.dumps(one) + "\n" for one in counts))
    write(f"{where}/rec.csv", "prompt,ordinal,answer\n" + "".join(
        f"{p},{k},{'right' if one else 'wrong'}\n" for p, right in rows.items() for k, one in enumerate(right)))
    model = {"name": "log", "backend": "replay", "path": f"{where}/rec.csv"}
    sweep(where, arms_of(means, strengths, len(rows)), models=[model])
    drover("run", "sweep.yaml", "--state", "st", "--quiet", cwd=where)
    return report(f"{where}/st"), where


def reach(rows, counts, means, strengths):
    """{arm: (coverage, rollouts per prompt)} of a sweep over recorded rollouts, what its report says they save, its folder."""
    reported, where = swept(rows, counts, means, strengths)
    found = {}
    for arm in reported["groups"][0]["curves"]:
        last = curve(reported, arm["arm"])["points"][-1]
        found[arm["arm"]] = last["accuracy"], last["rollouts_per_prompt"]
    for mean in [*means, N]:
        found[f"oracle-{mean}"] = oracle(rows, mean * len(rows))
    found["oracle"] = found.pop(f"oracle-{N}")
    found["saved"] = {one["arm"]: [one["rollouts"], one["rollouts_low"], one["rollouts_high"]] for one in reported["savings"]}
    found["even"] = [sum(covers(right, n) for right in rows.values()) / len(rows) for n in range(1, N + 1)]
    return found, where


def saving(even, coverage, used):
    """Rollouts of every prompt that reach this coverage, over those used; None: no number of the recorded ones does."""
    below = 0.0
    for n, value in enumerate(even, 1):
        if value >= coverage:
            return (n - 1 + (coverage - below) / (value - below)) / used
        below = value
    return None
