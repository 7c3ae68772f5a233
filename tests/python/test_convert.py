"""plumb convert: what the `gguf` package reads of its files, and what is left of a conversion that is killed."""
import json
import pathlib
import random
import subprocess
import time

import gguf
import numpy as np
import pytest
from gguf_files import rewrite

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "models" / "demo"
KILLS = 12
TYPES = {"F32": "F32", "F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0",
         "Q4_K_M": "Q4_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K"}


def convert(binary, *arguments):
    return subprocess.run([binary, "convert", *map(str, arguments)], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("file_type", TYPES)
def test_the_gguf_package_reads_every_type(plumb_binary, tmp_path, file_type):
    out = tmp_path / "model.gguf"
    done = convert(plumb_binary, DEMO, out, "--type", file_type, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["type"] == file_type
    reader = gguf.GGUFReader(out)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name == TYPES[file_type]
    assert tensors["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    for tensor in tensors.values():
        assert np.isfinite(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).all()
    assert reader.get_field("general.architecture").contents() == "qwen3"


def test_a_killed_conversion_leaves_no_broken_file(plumb_binary, tmp_path):
    whole = tmp_path / "whole.gguf"
    start = time.monotonic()
    assert convert(plumb_binary, DEMO, whole, "--type", "Q4_K_M").returncode == 0
    length = time.monotonic() - start
    expected = whole.read_bytes()
    out = tmp_path / "out.gguf"
    draw = random.Random(1)
    for _ in range(KILLS):
        process = subprocess.Popen([plumb_binary, "convert", DEMO, out, "--type", "Q4_K_M"], stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0, length))
        process.kill()
        process.wait()
        assert not out.exists() or out.read_bytes() == expected
        out.unlink(missing_ok=True)


def test_errors_are_one_sentence(plumb_binary, tmp_path):
    out = tmp_path / "model.gguf"
    for arguments, expected in (((DEMO, out, "--type", "Q9"), "--type 'Q9' is not known; there are F32, F16"),
                                ((tmp_path / "none", out), "there is no such file or folder"),
                                ((DEMO, tmp_path / "none" / "model.gguf"), "cannot create: No such file or directory")):
        done = convert(plumb_binary, *arguments)
        assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not out.exists()


def _split(source, folder, tensors):
    """The file in parts of so many tensors, as the `gguf` package splits; the first part."""
    rewrite(source, folder / "model.gguf", split_max_tensors=tensors)
    parts = sorted(folder.glob("model-*.gguf"))
    assert len(parts) > 2
    return parts[0]


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_next", "deepseek_v3"])
def test_split_files_are_one_model(plumb, tmp_path, name):
    """Their forms take tensors of several parts: a parameter of two tensors may lie in two files."""
    whole = REPOSITORY / "tests" / "data" / "gguf" / f"{name}-llama.cpp" / "model.gguf"
    ids = list(range(3, 30))
    expected = plumb.logits(whole, ids)
    assert np.array_equal(plumb.logits(_split(whole, tmp_path, 9), ids), expected)


def test_what_llama_cpp_cannot_load_is_said(plumb_binary, tmp_path):
    data = REPOSITORY / "tests" / "data"
    for model, note in (("checkpoints/qwen3_5_moe", "linear_key_head_dim is 8, linear_value_head_dim 12"), ("checkpoints/qwen3_moe", "the layer 1 is dense"),
                        ("checkpoints/gemma2", "query_pre_attn_scalar is 48, and it takes 32"), ("checkpoints/deepseek_v4", "makes blocks of 8"),
                        ("checkpoints/deepseek_v4", "index_head_dim is 16, and it takes multiples of 64")):
        done = convert(plumb_binary, data / model, tmp_path / "model.gguf", "--type", "F32")
        assert done.returncode == 0 and "note" in done.stderr and note in done.stderr, done.stderr
    quiet = convert(plumb_binary, data / "checkpoints" / "qwen3", tmp_path / "model.gguf", "--type", "F32")
    assert "llama.cpp" not in quiet.stderr
