"""plumb convert: what the `gguf` package reads of its files, and what is left of a conversion that is killed."""
import json
import pathlib
import random
import subprocess
import time

import gguf
import numpy as np
import pytest

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
