"""What the batteries of planted faults share: where a model lies, how a trace is put to `plumb diagnose`, from where on values depart."""

import json
import os
import pathlib
import subprocess
import time

import checkpoints
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("PLUMB_BINARY", str(ROOT / "build/release/plumb"))
# A stage departs where its relative L2 error is above what another order of sums makes in this type.
LEAST = {torch.float32: 2e-7, torch.float16: 1e-4, torch.bfloat16: 1e-3}


def folder(name):
    known = checkpoints.folder(name)
    return known if known.exists() else ROOT / "tests/data/variants" / name


def diagnose(trace, model, out):
    """The report as `--json` prints it, and the seconds it took; an exit that is no verdict is the verdict "error"."""
    trace.write(out, force=True)
    begin = time.monotonic()
    done = subprocess.run([BINARY, "diagnose", out, "--model", model, "--json"], capture_output=True, text=True, timeout=900)
    seconds = time.monotonic() - begin
    if done.returncode not in (0, 1):
        return {"verdict": "error", "summary": done.stderr.strip(), "findings": [], "seconds": seconds}
    return json.loads(done.stdout) | {"seconds": seconds}
