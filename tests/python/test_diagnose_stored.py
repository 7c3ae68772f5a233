"""An engine that reads a file's quantised weights wrong: nibbles, zeros, offsets and scales (rows 20b, 20c and 20e of docs/causes.md). The
weights are decoded here, by the formats' own descriptions, with one thing done otherwise; independent_engine.py runs on them."""

import pathlib

import checkpoints
import numpy as np
import pytest
import torch
from diagnoses import diagnose, write
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as Type
from independent_engine import Engine
from independent_traces import trace_of
from safetensors import safe_open

DATA = pathlib.Path(__file__).parents[1] / "data"
GGUF = DATA / "gguf" / "llama-gguf-q4_0" / "model.gguf"
INT4 = DATA / "quantised" / "llama-ct-int4-g32-zp"
MXFP4 = DATA / "quantised" / "llama-ct-mxfp4"
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
PARTS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj"}
PARTS |= {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
PARTS |= {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def published(name):
    """The published name of a tensor of a GGUF file."""
    words = name.split(".")
    if words[0] == "blk":
        return f"model.layers.{words[1]}.{PARTS[words[2]]}.weight"
    return {"token_embd": "model.embed_tokens.weight", "output": "lm_head.weight", "output_norm": "model.norm.weight"}.get(words[0])


def halves(packed, wrong):
    """Codes 0 to 15 of [..., 16] bytes: the low nibbles are the first 16 elements."""
    low, high = packed & 15, packed >> 4
    if wrong == "nibbles exchanged":
        low, high = high, low
    if wrong == "neighbours in a byte":
        return np.stack([low, high], -1).reshape(*packed.shape[:-1], 32)
    return np.concatenate([low, high], -1)


def of_blocks(data, wrong):
    """[rows, columns] of Q4_0: a half and 16 bytes of nibbles less 8 for every 32 elements."""
    blocks = np.array(data).reshape(len(data), -1, 18)
    scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].astype(np.float32)
    codes = halves(blocks[..., 2:], wrong).astype(np.float32)
    codes -= {"unsigned": 0, "zero one more": 9}.get(wrong, 8)
    if wrong == "two's complement":
        codes = np.where(codes < 0, codes + 8, codes - 8)
    if wrong == "scales of the neighbour":
        scales = scales.reshape(len(scales), -1, 2)[..., ::-1].reshape(scales.shape)
    if wrong == "the row's first scale":
        scales = np.repeat(scales[:, :1], scales.shape[1], 1)
    return (codes * scales[..., None]).reshape(len(data), -1)


def gguf_weights(wrong):
    weights = {}
    for tensor in GGUFReader(GGUF).tensors:
        name = published(tensor.name)
        if name is None:
            continue
        values = np.array(tensor.data) if tensor.tensor_type == Type.F32 else of_blocks(tensor.data, wrong)
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp's order of a head's rows, back to halves
            heads = 4 if "q_proj" in name else 2
            values = values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        weights[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return weights


def packed_weights(folder, decode):
    """Safetensors: what has packed codes is decoded, the rest is as it is."""
    weights = {}
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
        for name in names:
            if name.endswith(".weight_packed"):
                part = name.removesuffix("_packed")
                values = decode({end: file.get_tensor(f"{part}_{end}") for end in ("packed", "scale", "zero_point") if f"{part}_{end}" in names})
                weights[part] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
            elif name.endswith((".weight", ".bias")):
                weights[name] = file.get_tensor(name).float()
    return weights


def int4(wrong):
    """Eight codes in a word, the first lowest, less a zero point, times a scale for every 32; zero points are packed along the rows."""

    def decode(parts):
        words = parts["packed"].numpy().view(np.uint32)
        codes = np.stack([(words >> (4 * i)) & 15 for i in range(8)], -1).reshape(len(words), -1).astype(np.float32)
        zeros = parts["zero_point"].numpy().view(np.uint32)
        zeros = np.stack([(zeros >> (4 * i)) & 15 for i in range(8)], 1).reshape(-1, zeros.shape[1])[: len(codes)].astype(np.float32)
        if wrong == "nibbles exchanged":
            codes = codes.reshape(len(codes), -1, 2)[..., ::-1].reshape(codes.shape)
        if wrong == "zero one more":
            zeros += 1
        scales = parts["scale"].float().numpy()
        if wrong == "zeros left out":
            zeros[:] = 8
        return (codes - np.repeat(zeros, 32, 1)) * np.repeat(scales, 32, 1)

    return packed_weights(INT4, decode)


def mxfp4(wrong):
    """E2M1, two in a byte, the first in the low nibble; a power of two for every 32."""

    def decode(parts):
        packed = parts["packed"].numpy()
        pair = [packed & 15, packed >> 4]
        if wrong == "nibbles exchanged":
            pair.reverse()
        if wrong == "halves of a block":
            codes = np.stack(pair, 1).reshape(len(packed), 2, -1, 16).swapaxes(1, 2).reshape(len(packed), -1)
        else:
            codes = np.stack(pair, -1).reshape(len(packed), -1)
        scales = 2.0 ** (parts["scale"].numpy().astype(np.float32) - 127)
        if wrong == "scales from the last on":
            scales = scales[:, ::-1]
        return FP4[codes] * np.repeat(scales, 32, 1)

    return packed_weights(MXFP4, decode)


CASES = [
    (GGUF, gguf_weights, "nibbles exchanged", "20b"),
    (GGUF, gguf_weights, "neighbours in a byte", "20b"),
    (GGUF, gguf_weights, "unsigned", "20b"),
    (GGUF, gguf_weights, "zero one more", "20b"),
    (GGUF, gguf_weights, "two's complement", "20b"),
    (GGUF, gguf_weights, "scales of the neighbour", "20e"),
    (GGUF, gguf_weights, "the row's first scale", "20c"),
    (INT4, int4, "nibbles exchanged", "20b"),
    (INT4, int4, "zero one more", "20b"),
    (INT4, int4, "zeros left out", "20b"),
    (MXFP4, mxfp4, "nibbles exchanged", "20b"),
    (MXFP4, mxfp4, "halves of a block", "20b"),
    (MXFP4, mxfp4, "scales from the last on", "20e"),
]


def judged(plumb_binary, tmp_path, model, weights, mode):
    folder = checkpoints.folder("llama")
    engine = Engine(folder)
    engine.weights = weights
    ids = checkpoints.golden("llama")["long"].ids[:24]
    return diagnose(plumb_binary, write(trace_of(engine.run([int(i) for i in ids], 1), mode, torch.float32), tmp_path / "a.trace"), model)[1]


@pytest.mark.parametrize(("model", "read", "wrong", "row"), CASES, ids=[f"{case[0].parent.name if case[0] == GGUF else case[0].name}-{case[2]}" for case in CASES])
def test_it_is_named(plumb_binary, tmp_path, model, read, wrong, row):
    report = judged(plumb_binary, tmp_path, model, read(wrong), "house")
    assert report["verdict"] == "fault" and [f["row"] for f in report["findings"]] == [row], report["summary"]
    assert report["findings"][0]["proved"], report["summary"]


@pytest.mark.parametrize(("model", "read"), [(GGUF, gguf_weights), (INT4, int4), (MXFP4, mxfp4)], ids=["gguf", "int4", "mxfp4"])
def test_read_rightly_it_raises_no_alarm(plumb_binary, tmp_path, model, read):
    assert judged(plumb_binary, tmp_path, model, read(None), "house")["verdict"] == "benign"


def test_logits_alone_tell_it(plumb_binary, tmp_path):
    report = judged(plumb_binary, tmp_path, GGUF, gguf_weights("neighbours in a byte"), "logits")
    assert [f["row"] for f in report["findings"]] == ["20b"], report["summary"]
