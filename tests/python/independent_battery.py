"""How well the diagnosis does on traces of independent_engine.py: a line for each fault that is not named at its stage, then a table.

    python tests/python/independent_battery.py [--models llama,qwen3] [--modes house,own] [--dtype float32] [--pairs 20] [--unknown] [--only NAME]

Modes are what of a run is captured, and how: those of independent_traces.py, and the forms of stranger_traces.py."""

import argparse
import collections
import itertools
import pathlib
import random
import tempfile

import checkpoints
import independent_faults as faults
import independent_traces
import stranger_traces
import torch
from batteries import LEAST, diagnose, folder
from independent_engine import Engine
from independent_traces import MODES, split

NAMES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "olmoe", "mixtral", "qwen3_moe", "gpt_oss", "glm4", "olmo2", "olmo3", "phi3", "smollm3")
TOKENS, STEPS = 34, 2


def prompt(name):
    """Text for a model that was taught text, ids by chance for the others; past every window."""
    if checkpoints.CHECKPOINTS in folder(name).parents:
        return [int(i) for i in checkpoints.golden(name)["long"].ids[:TOKENS]]
    drawn = random.Random(5)
    return [drawn.randrange(3, 60) for _ in range(TOKENS)]


def same_keys(stage, x, y):
    """Over keys: a side that holds fewer of them lacks the oldest, which the other may mask."""
    width, nothing = max(x.shape[-1], y.shape[-1]), 0.0 if stage.endswith("probs") else -torch.inf
    return [torch.nn.functional.pad(v, (width - v.shape[-1], 0), value=nothing) for v in (x, y)]


def departs(clean, wrong, dtype=torch.float32):
    """Stages of the first pass in which they depart, in order: [(pass, stage)]."""
    found = []
    for step, (a, b) in enumerate(zip(clean.values, wrong.values, strict=True)):
        if clean.ids[step] != wrong.ids[step]:
            break
        for stage in b:
            pair = [a.get(stage), b[stage]]
            if pair[0] is not None and split(stage)[0] in ("attn.scores", "attn.probs"):
                pair = same_keys(stage, *pair)
            if pair[0] is None or pair[0].shape != pair[1].shape:
                found.append((step, stage))
                continue
            x, y = (v.double().nan_to_num(0, 0, 0) for v in pair)
            if (x - y).norm() > LEAST[dtype] * x.norm():
                found.append((step, stage))
    return found


def trace_of(run, mode, dtype):
    of = stranger_traces if mode in stranger_traces.FORMS else independent_traces
    return of.trace_of(run, mode, dtype)


def shown(stages, mode, layers):
    """Of departing stages those that the mode's trace tells, under the names that a finding bears."""
    for step, stage in stages:
        role, layer = split(stage)
        if mode in stranger_traces.FORMS:
            if stranger_traces.roles_told(mode, role, layer, layers, step):
                yield stage
        elif mode == "logprobs":
            yield "logprobs"
        elif mode in ("logits", "last"):
            yield "logits"
        elif mode == "blocks" and not (role == "residual" or stage in ("embed", "norm", "logits")):
            continue
        elif mode == "own" and role in ("attn.q_norm", "attn.k_norm", "attn.scores", "mlp.gate", "mlp.up", "attn.post_norm", "mlp.post_norm", "moe.probs"):
            continue
        elif mode == "mixed" and role in ("attn.scores", "moe.probs"):
            continue
        else:
            yield stage


def expected_stages(clean, wrong, mode, dtype):
    """The first stage that departs and those beside it that it can be seen at as well (k for q)."""
    layers = 1 + max(int(split(stage)[1] or 0) for stage in clean.values[0])
    stages = list(shown(departs(clean, wrong, dtype), mode, layers))
    if not stages:
        return set()
    # q, k and v stand beside each other: none follows from the others.
    beside = {stages[0]}
    role, layer = split(stages[0])
    for group in (("attn.q", "attn.k", "attn.v"), ("attn.q_norm", "attn.k_norm"), ("attn.q_rope", "attn.k_rope"), ("mlp.gate", "mlp.up", "mlp.act"), ("moe.probs", "moe.ids", "moe.weights"), ("attn.scores", "attn.probs")):
        if role in group:
            beside |= {f"layers.{layer}.{r}" for r in group}
    return beside


def rows_of(report):
    return [({f["row"], *f["also"]} - {None}, f["stage"], f) for f in report["findings"]]


class Battery:
    def __init__(self, name, dtype, out):
        self.name, self.dtype, self.out = name, dtype, out
        self.ids = prompt(name)
        self.clean = Engine(folder(name), {}, dtype).run(self.ids, STEPS)

    def run(self, chosen):
        switches = {}
        for fault in chosen:
            switches |= fault.switches()
        return Engine(folder(self.name), switches, self.dtype).run(self.ids, STEPS)

    def judge(self, chosen, mode):
        """(stage right, cause right, report); None where the fault shows in nothing."""
        wrong = self.run(chosen)
        alone = [self.run([fault]) for fault in chosen] if len(chosen) > 1 else [wrong]
        places = [expected_stages(self.clean, one, mode, self.dtype) for one in alone]
        if not all(places):
            return None
        report = diagnose(trace_of(wrong, mode, self.dtype), folder(self.name), self.out)
        found = rows_of(report)
        whole = expected_stages(self.clean, wrong, mode, self.dtype)
        stage = bool(found) and found[0][1] in whole
        if not any(fault.rows for fault in chosen):
            return stage, report["verdict"] == "unexplained", report
        cause = all(any(rows & set(fault.rows) for rows, _, _ in found) for fault in chosen)
        return stage, cause, report


def summary(report):
    text = "; ".join(f"[{f['row']} {f['stage']} {f['cause'][:60]} {f['found']}{'' if f['proved'] else ' unproved'}{' harmless' if f['harmless'] else ''}]" for f in report["findings"])
    return f"{report['verdict']} {text or report['summary']} ({report['seconds']:.1f} s)"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--unknown", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    torch.set_num_threads(1)
    table = collections.defaultdict(lambda: [0, 0, 0, 0.0])
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models.split(","):
            battery = Battery(name, dtype, pathlib.Path(scratch) / "a.trace")
            for mode in options.modes.split(","):
                report = diagnose(trace_of(battery.clean, mode, dtype), folder(name), battery.out)
                if report["verdict"] != "benign":
                    print(f"ALARM {name} {mode}: {summary(report)}", flush=True)
                groups = [[f] for f in faults.of(name, faults.UNKNOWN if options.unknown else faults.FAULTS) if options.only in f.text]
                if options.pairs:
                    every = [list(p) for p in itertools.combinations(faults.of(name), 2) if p[0].name != p[1].name]
                    groups = random.Random(options.seed).sample(every, options.pairs)
                for group in groups:
                    judged = battery.judge(group, mode)
                    if judged is None:
                        continue
                    stage, cause, report = judged
                    row = table[name, mode]
                    row[0] += 1
                    row[1] += stage
                    row[2] += cause
                    row[3] = max(row[3], report["seconds"])
                    if not (stage and cause) or options.show:
                        kind = "ok" if stage and cause else "stage" if cause else "cause" if stage else "both"
                        print(f"{kind} {name} {mode} {' + '.join(f.text for f in group)} (row {'+'.join('/'.join(f.rows) for f in group)}): {summary(report)}", flush=True)
    print("| checkpoint | captured | planted | stage right | cause right | longest, s |\n|---|---|---|---|---|---|")
    for (name, mode), (count, stage, cause, longest) in table.items():
        print(f"| {name} | {mode} | {count} | {stage} | {cause} | {longest:.1f} |")
    total = [sum(row[i] for row in table.values()) for i in range(3)]
    print(f"| all | | {total[0]} | {total[1]} | {total[2]} | |")


if __name__ == "__main__":
    main()
