"""What the tests of plumb diagnose share: transformers with faults planted, captured, and the command's answer."""

import contextlib
import json
import subprocess

import checkpoints
import plumb as package
import planted
import torch
from capture_models import load, run

IDS = [int(i) for i in checkpoints.golden("llama")["long"].ids[:32]]  # past the windows of 24


def fault(name):
    """The planted fault of this name."""
    return next(each for each in planted.FAULTS if each.name == name)


def captured(name, *faults, dtype=torch.float32, ids=IDS, steps=1):
    """A captured run of a checkpoint's model, with the faults planted."""
    model = load(checkpoints.folder(name), dtype)
    with torch.no_grad(), contextlib.ExitStack() as undo:
        for each in faults:
            plant = each.plant(model)
            if hasattr(plant, "__enter__"):
                undo.enter_context(plant)
        with package.capture(model) as trace:
            run(model, ids, steps=steps)
    return trace


def write(trace, folder):
    trace.write(folder, force=True)
    return folder


def diagnose(plumb_binary, trace, model, *options):
    """The exit code and the parsed answer."""
    command = [plumb_binary, "diagnose", trace, "--model", model, "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def diagnose_text(plumb_binary, trace, model, *options):
    command = [plumb_binary, "diagnose", trace, "--model", model, *map(str, options)]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.decode()
