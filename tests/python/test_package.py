"""The package plumb: traces that it writes and reads, which the program reads and writes too."""

import json
import os
import shutil
import subprocess
import sys

import checkpoints
import numpy as np
import plumb as package
import pytest
import torch
from safetensors.torch import load_file, save_file

LLAMA = checkpoints.folder("llama")
ELEMENTS = checkpoints.REPOSITORY / "tests" / "data" / "elements" / "elements.safetensors"
PACKAGE = checkpoints.REPOSITORY / "python"
NUMBERS = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool")


def small_trace(**more):
    trace = package.Trace(
        **{"engine": {"name": "mine", "version": "1"}, "dtype": "float32", "token_ids": [5, 3], "generated": [7, 9]} | more
    )
    trace.add_step(2)
    trace.add("embed", np.arange(6, dtype=np.float32).reshape(2, 3))
    trace.add_step(1)
    trace.add("embed", np.zeros((1, 3), np.float32))
    return trace


def test_what_is_written_is_read(tmp_path):
    trace = small_trace(
        prompt="é\n",
        sampler={"temperature": 0.5},
        stop_ids=[2],
        model={"model_type": "llama", "config": {"a": [1]}},
        not_observed=[{"stage": "logits", "why": "no time"}],
        extra={"mine": {"x": 1}},
    )
    trace.write(tmp_path / "a.trace")
    again = package.Trace.read(tmp_path / "a.trace")
    for name in (
        "engine",
        "model",
        "dtype",
        "prompt",
        "rendered",
        "token_ids",
        "generated",
        "sampler",
        "stop_ids",
        "steps",
        "stages",
        "not_observed",
        "extra",
    ):
        assert getattr(again, name) == getattr(trace, name), name
    assert list(again) == ["0/embed", "1/embed"] and np.array_equal(again[0, "embed"], trace["0/embed"])
    assert "0/embed" in again and (1, "embed") in again and "2/embed" not in again and "nonsense" not in again
    assert again.fed_ids(0) == [5, 3] and again.fed_ids(1) == [7] and again.problems() == []
    assert oct((tmp_path / "a.trace").stat().st_mode & 0o777) == oct(0o777 & ~umask())


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_every_number_type(tmp_path):
    trace, values = package.Trace(token_ids=[1, 2]), {}
    trace.add_step(2)
    for name in NUMBERS:
        values[name] = np.array([[0, 1, 100], [1, 0, 7]]).astype(name)
        trace.add(f"own.{name}", values[name])
    trace.add("own.empty", np.zeros((2, 0), np.float32))
    trace.add("own.strided", np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2])
    trace.write(tmp_path / "a.trace")
    again = package.Trace.read(tmp_path / "a.trace")
    theirs = load_file(tmp_path / "a.trace" / "tensors.safetensors")
    for name in NUMBERS:
        assert np.array_equal(again[0, f"own.{name}"], values[name]) and again[0, f"own.{name}"].dtype == values[name].dtype
        assert np.array_equal(theirs[f"0/own.{name}"].numpy(), values[name])
    assert again[0, "own.empty"].shape == (2, 0) and again[0, "own.strided"].tolist() == [[0, 2, 4], [6, 8, 10]]


def test_bfloat16_is_rounded_as_torch_rounds(tmp_path):
    elements = load_file(ELEMENTS)
    values = np.concatenate([elements["round/values"].numpy(), [np.nan, -np.inf, np.inf, -0.0, 3.4e38]]).astype(np.float32)
    trace = package.Trace(token_ids=[1])
    trace.add_step(1)
    trace.add("own", values[None], dtype="bfloat16")
    trace.write(tmp_path / "a.trace")
    theirs = load_file(tmp_path / "a.trace" / "tensors.safetensors")["0/own"]
    expected = torch.from_numpy(values)[None].bfloat16()
    assert theirs.dtype == torch.bfloat16 and torch.equal(theirs.isnan(), expected.isnan())
    assert torch.equal(theirs.nan_to_num().view(torch.int16), expected.nan_to_num().view(torch.int16))
    again = package.Trace.read(tmp_path / "a.trace")
    assert again.stored_dtype("0/own") == "BF16" and again["0/own"].dtype == np.float32 and again.bits("0/own").dtype == np.uint16
    assert np.array_equal(again["0/own"], expected.float().numpy(), equal_nan=True)


def test_eight_bit_floats_have_torchs_values(tmp_path):
    elements, folder = load_file(ELEMENTS), tmp_path / "a.trace"
    small_trace().write(folder)
    codes = torch.arange(256, dtype=torch.uint8).reshape(2, 128)
    types = {"f8_e4m3": torch.float8_e4m3fn, "f8_e5m2": torch.float8_e5m2, "f8_e8m0": torch.float8_e8m0fnu}
    save_file({f"0/own.{name}": codes.clone().view(dtype) for name, dtype in types.items()}, folder / "tensors.safetensors")
    trace = package.Trace.read(folder)
    for name in types:
        assert np.array_equal(trace[0, f"own.{name}"].reshape(-1), elements[name].numpy(), equal_nan=True), name


def test_program_reads_what_the_package_writes_and_the_reverse(plumb, tmp_path):
    ids, written = "3,4,5,6,7,8", tmp_path / "plumb.trace"
    for precision, dtype in (("fp32", "F32"), ("hf-bf16", "BF16"), ("fp64", "F64")):
        plumb.call(
            "trace", LLAMA, "--ids", ids, "--steps", 1, "--ignore-eos", "--precision", precision, "--out", written, "--force"
        )
        trace, theirs = package.Trace.read(written), load_file(written / "tensors.safetensors")
        assert set(trace) == set(theirs) and trace.problems() == []
        assert all(
            np.array_equal(trace[key], theirs[key].to(torch.float64 if dtype == "F64" else torch.float32).numpy())
            for key in theirs
        )
        assert trace.stored_dtype("0/embed") == dtype and trace.stages[0] == "embed"
        trace.write(tmp_path / "mine.trace", force=True)
        assert load_file(tmp_path / "mine.trace" / "tensors.safetensors").keys() == theirs.keys()
        report = json.loads(plumb.call("diagnose", tmp_path / "mine.trace", "--model", LLAMA, "--json"))
        assert report["verdict"] == "benign", report["summary"]


def test_program_finds_what_was_changed_in_numpy(plumb, plumb_binary, tmp_path):
    plumb.call("trace", LLAMA, "--ids", "3,4,5,6,7,8", "--out", tmp_path / "plumb.trace")
    trace, suspect = package.Trace.read(tmp_path / "plumb.trace"), package.Trace(token_ids=[3, 4, 5, 6, 7, 8], dtype="float32")
    suspect.add_step(6)
    for stage in trace.stages:
        suspect.add(stage, trace[0, stage] * (2 if stage == "embed" else 1))
    suspect.write(tmp_path / "suspect.trace")
    done = subprocess.run(
        [plumb_binary, "diagnose", tmp_path / "suspect.trace", "--model", LLAMA, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and json.loads(done.stdout)["findings"][0]["stage"] == "embed"


def test_sharded_tensors_are_read(tmp_path):
    folder = tmp_path / "a.trace"
    small_trace().write(folder)
    tensors = load_file(folder / "tensors.safetensors")
    (folder / "tensors.safetensors").unlink()
    files = {name: f"tensors-0000{i}-of-00002.safetensors" for i, name in enumerate(tensors, 1)}
    for name, file in files.items():
        save_file({name: tensors[name]}, folder / file)
    (folder / "tensors.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert sorted(package.Trace.read(folder)) == ["0/embed", "1/embed"]
    (folder / "tensors.safetensors.index.json").write_text(json.dumps({"weight_map": {"0/embed": "../other.safetensors"}}))
    with pytest.raises(package.TraceError, match="outside of the trace"):
        package.Trace.read(folder)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"format": "plumb-trace/2"}, "only 'plumb-trace/1' is known"),
        ({"token_ids": None, "steps": [{"first": 0}]}, "step 0 needs integers"),
        ({"token_ids": [1, -1]}, "an id is an integer from 0"),
        ({"token_ids": [True]}, "an id is an integer"),
        ({"steps": [{"first": -1, "count": 1}]}, "step 0"),
        ({"steps": [{"first": 0, "count": 2.0}]}, "step 0"),
        ({"steps": {}}, "steps is {}, not list"),
        ({"dtype": "float8"}, 'dtype is "float8"'),
        ({"engine": "x"}, 'engine is "x", not dict'),
        ({"steps": [{"first": 0, "count": 2}]}, "there is no step 1"),
        ({"prompt": 3}, "prompt is 3, not str"),
    ],
)
def test_what_the_format_forbids_is_named(tmp_path, change, said):
    small_trace().write(tmp_path / "a.trace")
    file = tmp_path / "a.trace" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(package.TraceError, match=said):
        package.Trace.read(tmp_path / "a.trace")


def test_damaged_files_are_named(tmp_path):
    folder = tmp_path / "a.trace"
    small_trace().write(folder)
    tensors = (folder / "tensors.safetensors").read_bytes()
    for content in (tensors[:20], tensors[:-1], b"", b"\xff" * 40):
        (folder / "tensors.safetensors").write_bytes(content)
        with pytest.raises(package.TraceError, match="tensors.safetensors"):
            package.Trace.read(folder)
    (folder / "tensors.safetensors").unlink()
    with pytest.raises(package.TraceError, match="neither"):
        package.Trace.read(folder)
    for text in ("{", "[]", "[" * 100000):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(package.TraceError, match="JSON"):
            package.Trace.read(folder)
    with pytest.raises(OSError, match="nowhere"):
        package.Trace.read(tmp_path / "nowhere")


def test_values_that_do_not_belong_are_refused():
    trace = package.Trace(token_ids=[1, 2])
    with pytest.raises(package.TraceError, match="has not begun"):
        trace.add("embed", np.zeros((2, 3)))
    with pytest.raises(package.TraceError, match="at least 1"):
        trace.add_step(0)
    trace.add_step(2)
    trace.add("embed", np.zeros((2, 3)))
    for stage, values, dtype, said in (
        ("embed", np.zeros(2), None, "there already"),
        ("a b", np.zeros(2), None, "no name"),
        ("a/b", np.zeros(2), None, "no name"),
        ("x", np.zeros(2, complex), None, "not known"),
        ("x", np.array(["a"]), None, "not known"),
        ("x", np.array([300]), "int8", "do not all fit"),
        ("x", np.zeros(2), "float8_e4m3fn", "never written"),
        ("x", np.zeros(2), "float3", "not known"),
    ):
        with pytest.raises(package.TraceError, match=said):
            trace.add(stage, values, dtype=dtype)
    with pytest.raises(package.TraceError, match="attributes of the trace"):
        small_trace(extra={"steps": []}).write("never")


def test_problems_are_sentences():
    trace = package.Trace(token_ids=[1, 2], generated=[])
    trace.add_step(2)
    trace.add("logits", np.zeros((1, 4)))
    trace.add("embed", np.full((2, 2), np.nan))
    trace.add("layers.0.linear.state", np.zeros((5, 2, 2)))
    trace.add("layers.0.attn.scores", np.full((2, 1, 2), -np.inf))
    trace.add_step(1)
    assert trace.problems() == [
        "the steps feed 3 tokens, token_ids and generated hold 2",
        "0/logits: the shape is [1, 4], the step has 2 tokens",
        "0/embed: 4 of 4 values are not finite",
    ]


def test_what_is_there_is_not_lost(tmp_path):
    trace, folder = small_trace(), tmp_path / "a.trace"
    trace.write(folder)
    with pytest.raises(FileExistsError, match="force=True"):
        trace.write(folder)
    trace.write(folder, force=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="notes.txt"):
        trace.write(folder, force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="no folder"):
        trace.write(tmp_path / "file", force=True)
    assert sorted(os.listdir(tmp_path)) == ["a.trace", "file"] and (folder / "notes.txt").exists()


def test_partly_known_values_are_kept_apart(tmp_path):
    trace = small_trace()
    trace.add("norm", np.array([[1, np.nan, 3]], np.float32), partial=True)
    trace.write(tmp_path / "a.trace")
    assert "1/norm" not in load_file(tmp_path / "a.trace" / "tensors.safetensors")
    assert json.loads((tmp_path / "a.trace" / "manifest.json").read_text())["stages"] == ["embed"]
    again = package.Trace.read(tmp_path / "a.trace")
    assert (
        again.partial == {(1, "norm")}
        and np.array_equal(again[1, "norm"], [[1, np.nan, 3]], equal_nan=True)
        and again.problems() == []
    )
    again.write(tmp_path / "a.trace", force=True)


def test_importing_needs_neither_torch_nor_mlx():
    code = "import plumb, sys; print([m for m in ('torch', 'transformers', 'mlx', 'mlx_lm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout == "[]\n"


def test_the_package_installs(tmp_path):
    """As `pip install ./python` does, from this checkout: what is installed is complete."""
    source = shutil.copytree(PACKAGE, tmp_path / "python", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-input",
            "--disable-pip-version-check",
            "--target",
            tmp_path / "site",
            source,
        ],
        check=True,
        timeout=120,
    )
    code = "import plumb; print(plumb.__file__); from plumb import *; import plumb.capture.transformers_model"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert (tmp_path / "site" / "plumb" / "py.typed").exists()
