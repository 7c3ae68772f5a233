"""How often the diagnosis calls a right run wrong: runs of independent_engine.py without a fault, computed in each type and stored in each, of
which the prompt alone, the steps behind it alone, or both were captured. A line for each alarm, then the counts.

    python tests/python/right_runs.py [--models llama,qwen3] [--lengths 1,34] [--seeds 4] [--forms house,hidden] [--share 1/9]
"""

import argparse
import collections
import dataclasses
import itertools
import pathlib
import random
import tempfile

import stranger_traces
import torch
from batteries import diagnose, folder
from independent_battery import NAMES, summary
from independent_engine import Engine

TYPES = (torch.float32, torch.bfloat16, torch.float16)
CAPTURED = {"prompt": lambda step: step == 0, "decode": lambda step: step > 0, "both": lambda step: True}
STEPS = 2
OWN_NAMES = {"house": stranger_traces.Form(stranger_traces._house)} | {name: stranger_traces.FORMS[name] for name in ("ends", "some", "attention")}
FORMS = OWN_NAMES | {name: stranger_traces.FORMS[name] for name in ("callback", "vllm", "hidden", "numbered")}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    tokens: int
    seed: int
    computed: torch.dtype
    stored: torch.dtype
    captured: str
    form: str

    def __str__(self):
        types = " stored in ".join(stranger_traces.STORED[t] for t in (self.computed, self.stored))
        return f"{self.name} {types}, {self.captured} of {self.tokens} tokens and {STEPS} steps as {self.form}, seed {self.seed}"


def cases(names, lengths, seeds, forms):
    """All that share a run stand together. Names of other engines are found by the values of the first pass: without it there is nothing to judge."""
    every = (Case(*each) for each in itertools.product(names, lengths, seeds, TYPES, TYPES, CAPTURED, forms))
    return [case for case in every if case.form in OWN_NAMES or case.captured != "decode"]


def trace_of(case, runs):
    """`runs`: those made before, by what of the case they depend on."""
    key = (case.name, case.tokens, case.seed, case.computed)
    if key not in runs:
        runs.clear()
        drawn = random.Random(f"{case.seed} {case.tokens}")
        runs[key] = Engine(folder(case.name), {}, case.computed).run([drawn.randrange(3, 60) for _ in range(case.tokens)], STEPS)
    form = FORMS[case.form]

    def told(role, layer, layers, step):
        return CAPTURED[case.captured](step) and form.told(role, layer, layers, step)

    return stranger_traces.trace_of(runs[key], dataclasses.replace(form, told=told, stored=case.stored), case.computed)


def alarms(chosen, out):
    """Of each case that is not called benign: (case, report)."""
    runs = {}
    for case in chosen:
        report = diagnose(trace_of(case, runs), folder(case.name), out)
        if report["verdict"] != "benign":
            yield case, report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--lengths", default="1,34")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--forms", default="house")
    parser.add_argument("--share", type=float, default=1, help="of all cases, chosen by chance")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = cases(options.models.split(","), [int(n) for n in options.lengths.split(",")], range(options.seeds), options.forms.split(","))
    drawn = random.Random(1)
    chosen = [case for case in chosen if drawn.random() < options.share]
    count = collections.Counter((case.computed, case.stored) for case in chosen)
    wrong = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for case, report in alarms(chosen, pathlib.Path(scratch) / "a.trace"):
            wrong[case.computed, case.stored] += 1
            print(f"ALARM {case}: {summary(report)}", flush=True)
    print("| computed in | stored in | right runs | alarms |\n|---|---|---|---|")
    for computed, stored in itertools.product(TYPES, TYPES):
        print(f"| {stranger_traces.STORED[computed]} | {stranger_traces.STORED[stored]} | {count[computed, stored]} | {wrong[computed, stored]} |")
    print(f"| all | | {len(chosen)} | {wrong.total()} |")


if __name__ == "__main__":
    main()
