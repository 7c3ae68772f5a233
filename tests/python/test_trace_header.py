"""include/plumb/plumb_trace.h: compiled on its own as C99 and as C++, and what it writes read by the safetensors package."""
import json
import os
import subprocess

import checkpoints
import numpy as np
import pytest
import torch
from safetensors import safe_open

SOURCE = checkpoints.REPOSITORY / "tests" / "trace_engine" / "engine.c"
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-I", str(checkpoints.REPOSITORY / "include")]
COMPILERS = {"C99": [os.environ.get("CC", "cc"), "-std=c99"], "C++11": [os.environ.get("CXX", "c++"), "-x", "c++", "-std=c++11"]}


@pytest.fixture(scope="module", params=sorted(COMPILERS))
def engine(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("engine") / "engine"
    subprocess.run([*COMPILERS[request.param], *STRICT, str(SOURCE), "-o", str(program)], check=True, timeout=120)
    return program


def run(engine, out, what=""):
    return subprocess.run([engine, out, what], capture_output=True, text=True, timeout=60)


def test_trace_is_complete(engine, tmp_path):
    out = tmp_path / "a.trace"
    assert run(engine, out).returncode == 0
    assert sorted(os.listdir(out)) == ["manifest.json", "tensors.safetensors"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == {
        "format": "plumb-trace/1", "engine": {"name": "engine", "version": "1.0", "settings": {}}, "dtype": "float32",
        "prompt": 'a "quoted"\n\\ é', "model": {"name": "toy", "model_type": "llama", "config": {"vocab_size": 5}},
        "stop_ids": [0], "token_ids": [1, 2, 3], "generated": [4, 4],
        "steps": [{"first": 0, "count": 3}, {"first": 3, "count": 1}],
        "stages": ["embed", "layers.0.residual", "layers.0.moe.ids", "logits"]}
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    with safe_open(out / "tensors.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == sorted(f"{step}/{stage}" for step in (0, 1) for stage in manifest["stages"])
        for step, ids in enumerate(([1, 2, 3], [4])):
            assert np.array_equal(file.get_tensor(f"{step}/embed").numpy(), table[ids])
            assert np.array_equal(file.get_tensor(f"{step}/logits").numpy(), table[ids] @ table.T)
            assert file.get_tensor(f"{step}/layers.0.moe.ids").tolist() == ids
            rounded = file.get_tensor(f"{step}/layers.0.residual")
            assert rounded.dtype == torch.bfloat16 and np.array_equal(rounded.float().numpy(), table[ids])


def test_a_thousand_stages(engine, tmp_path):
    assert run(engine, tmp_path / "a.trace", "many").returncode == 0
    with safe_open(tmp_path / "a.trace" / "tensors.safetensors", framework="np") as file:
        assert file.get_tensor("0/own.999").tolist() == [999] and len(file.keys()) == 1008


@pytest.mark.parametrize("what, said", [("twice", "given twice"), ("early", "before the first step"), ("text", "not UTF-8")])
def test_errors_are_kept_and_leave_nothing(engine, tmp_path, what, said):
    done = run(engine, tmp_path / "a.trace", what)
    assert done.returncode == 1 and said in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_there_stays(engine, tmp_path):
    done = run(engine, tmp_path)
    assert done.returncode == 1 and "exists" in done.stderr and tmp_path.is_dir()
