"""How well the diagnosis does on edited files of transformers: a line for each fault that is not named at its stage, then a count.

    python tests/python/edited_battery.py [--models deepseek_v4,qwen3_5] [--modes all,blocks,logits,decode,logprobs] [--dtype float32] [--only TEXT] [--show]
"""

import argparse
import pathlib
import re
import tempfile

import checkpoints
import plumb
import torch
from batteries import LEAST, diagnose, folder
from edited_faults import FAULTS
from edited_models import edited, run
from independent_traces import add_logprobs

TOKENS, STEPS = 38, 4
BLOCKS = re.compile(r"(embed|streams|norm|logits|layers\.\d+\.(residual|streams))")
MODES = ("all", "blocks", "logits", "decode")


def prompt(name):
    known = checkpoints.folder(name)
    source = name if known.exists() else "llama"
    vocab = 60 if source != name else None
    ids = [int(i) for i in checkpoints.golden(source)["long"].ids[: TOKENS + STEPS]]
    return [3 + i % (vocab - 3) for i in ids] if vocab else ids


def captured(name, changes, dtype=torch.float32):
    """The logits, and a trace of everything."""
    ids = prompt(name)
    with edited(name, folder(name), changes, dtype) as model, plumb.capture(model, token_ids=ids) as trace:
        logits = run(model, ids, STEPS)
    return torch.cat([x[0] for x in logits]), trace


def limited(trace, mode):
    """The trace of an engine that captured less."""
    if mode == "all":
        return trace
    less = plumb.Trace(engine=trace.engine, dtype=trace.dtype, token_ids=trace.token_ids, generated=trace.generated)
    less.model = trace.model
    for number, step in enumerate(trace.steps):
        less.add_step(step.count, step.first)
        if mode == "logprobs":
            add_logprobs(less, torch.from_numpy(trace[number, "logits"]))
            continue
        for stage in trace.stages:
            told = number > 0 if mode == "decode" else stage == "logits" or (mode == "blocks" and BLOCKS.fullmatch(stage))
            if (number, stage) in trace and told:
                less.add_bits(stage, trace.bits((number, stage)), trace.stored_dtype((number, stage)))
    return less


def verdict(report, fault, mode):
    """Whether the stage is right, whether the cause is."""
    found = report["findings"]
    if not fault.rows:
        return bool(found), report["verdict"] == "unexplained"
    cause = report["verdict"] == "fault" and all({f["row"], *f["also"]} & set(fault.rows) and f["proved"] for f in found)
    stage = bool(found) and (mode != "all" or bool(re.fullmatch(fault.stage, found[0]["stage"])))
    return stage, cause


def summary(report):
    text = "; ".join(f"[{f['row']} {f['stage']} {f['cause'][:70]} {f['found']}{'' if f['proved'] else ' unproved'} also {f['also']}]" for f in report["findings"])
    return f"{report['verdict']} {text or report['summary']} ({report['seconds']:.1f} s)"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(FAULTS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "a.trace"
        for name in options.models.split(","):
            count = {mode: [0, 0, 0, 0.0] for mode in options.modes.split(",")}
            right, trace = captured(name, (), dtype)
            for mode in count:
                report = diagnose(limited(trace, mode), folder(name), out)
                if report["verdict"] != "benign":
                    print(f"ALARM {name} {mode}: {summary(report)}", flush=True)
            for fault in FAULTS[name]:
                if not re.search(options.only, fault.name):
                    continue
                try:
                    wrong, trace = captured(name, fault.changes, dtype)
                except Exception as error:  # an edit that does not run says nothing of the diagnosis
                    print(f"does not run {name} {fault.name}: {type(error).__name__}: {error}", flush=True)
                    continue
                if not (wrong - right).norm() > LEAST[dtype] * right.norm():
                    print(f"nothing {name} {fault.name}: {float((wrong - right).norm() / right.norm()):.1e}", flush=True)
                for mode, row in count.items():
                    report = diagnose(limited(trace, mode), folder(name), out)
                    stage, cause = verdict(report, fault, mode)
                    row[0] += 1
                    row[1] += stage
                    row[2] += cause
                    row[3] += report["seconds"]
                    if not (stage and cause) or options.show:
                        kind = "ok" if stage and cause else "stage" if cause else "cause" if stage else "both"
                        print(f"{kind} {name} {mode} {fault.name} ({'/'.join(fault.rows)}): {summary(report)}", flush=True)
            for mode, (planted, stage, cause, seconds) in count.items():
                print(f"{name}, {mode}: {planted} planted, stage right {stage}, cause right {cause}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
