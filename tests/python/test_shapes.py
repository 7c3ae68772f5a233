"""bench/make_shapes.py: its smallest files of each family run, and their random weights are of the size that it promises."""
import math
import pathlib
import subprocess
import sys

import gguf
import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FAMILIES = ["tiny-qwen3", "tiny-llama", "tiny-olmoe"]
TYPES = ["BF16", "F16", "Q8_0", "Q4_0", "Q4_K_M", "safetensors"]
IDS = list(range(3, 40))


def make(folder, *arguments):
    script = REPOSITORY / "bench" / "make_shapes.py"
    subprocess.run([sys.executable, script, folder, *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make(folder, "--shapes", ",".join(FAMILIES), "--types", ",".join(TYPES))
    return folder


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_runs_and_the_next_token_is_neither_certain_nor_any(plumb, shapes, family, kind):
    model = shapes / (f"{family}-{kind}" if kind == "safetensors" else f"{family}-{kind}.gguf")
    logits = plumb.logits(model, IDS).astype(np.float64)
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    entropy = -(np.exp(logprobs) * logprobs).sum(axis=1)
    assert 0.5 < np.median(entropy) < 0.95 * math.log(logits.shape[1])


@pytest.mark.parametrize("kind", TYPES[:-1])
def test_weights_have_the_scale_that_they_were_given(shapes, kind):
    reader = gguf.GGUFReader(shapes / f"tiny-llama-{kind}.gguf")
    for tensor in reader.tensors:
        if "ffn_up" in tensor.name or "attn_v" in tensor.name:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            scale = math.sqrt(values.shape[-1])
            # 256 columns: the mean and the deviation of some 65536 drawn numbers.
            assert abs(values.std() * scale - 1) < 0.05 and abs(values.mean() * scale) < 0.05, tensor.name


def test_no_two_tokens_share_a_row(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "bench")
    import make_shapes

    shape = make_shapes.SHAPES["qwen3-0.6b"]
    table = b"".join(map(bytes, make_shapes.Weights(shape, 1).pieces(make_shapes.parameters(shape)[0], make_shapes.Q.Q6_K)))
    starts = np.frombuffer(table, np.uint8).reshape(shape.vocab, -1)[:, :64].copy()
    assert len(np.unique(starts.view("V64"))) == shape.vocab


def test_the_same_arguments_give_the_same_bytes(shapes, tmp_path):
    make(tmp_path, "--shapes", "tiny-llama", "--types", "Q4_K_M")
    name = "tiny-llama-Q4_K_M.gguf"
    assert (tmp_path / name).read_bytes() == (shapes / name).read_bytes()
