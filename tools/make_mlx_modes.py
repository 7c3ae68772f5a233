#!/usr/bin/env python3
"""Writes tests/data/mlx/modes.safetensors: small matrices in every mode of mlx.core.quantize, and the values that mlx gives back.

    pip install "mlx[cpu]" numpy safetensors && python3 tools/make_mlx_modes.py

NAME.weight, NAME.scales, NAME.biases, NAME.global_scale as mlx-lm stores them; NAME.values F32. Of group sizes that mlx's kernels do
not have, the codes are packed here, and the values are NumPy's float32 scale * code + bias; mlx has to agree where it has the size.
"""

import pathlib

import mlx.core as mx
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/mlx/modes.safetensors"
TYPES = {"bf16": mx.bfloat16, "f16": mx.float16, "f32": mx.float32}


def packed(codes, bits):
    """Rows of codes as U32 words, a stream of bits from the least significant up."""
    stream = (codes[..., None] >> np.arange(bits)) & 1
    stream = stream.reshape(*codes.shape[:-1], -1).astype(np.uint8)
    return np.packbits(stream, axis=-1, bitorder="little").view(np.uint32)


def affine(rng, bits, group, kind, rows=3, columns=None):
    columns = columns or (384 if group == 48 else 160 if group == 20 else 128)
    codes = rng.integers(0, 2**bits, (rows, columns))
    scales = mx.array(rng.normal(0, 0.02, (rows, columns // group)).astype(np.float32)).astype(TYPES[kind])
    biases = mx.array(rng.normal(0, 0.1, (rows, columns // group)).astype(np.float32)).astype(TYPES[kind])
    s, b = (np.repeat(np.array(x.astype(mx.float32)), group, axis=1) for x in (scales, biases))
    values = s * codes.astype(np.float32) + b
    words = mx.array(packed(codes, bits))
    if group in (32, 64, 128):
        s32, b32 = scales.astype(mx.float32), biases.astype(mx.float32)
        from_mlx = np.array(mx.dequantize(words, s32, b32, group_size=group, bits=bits))
        assert np.abs(from_mlx - values).max() < 1e-7, (bits, group, kind)
    return {"weight": words, "scales": scales, "biases": biases, "values": mx.array(values)}


def floating(rng, mode, shape):
    matrix = mx.array(rng.normal(0, 1, shape).astype(np.float32))
    words, scales = mx.quantize(matrix, mode=mode)
    return {"weight": words, "scales": scales, "values": mx.dequantize(words, scales, mode=mode, dtype=mx.float32)}


def experts(rng):
    """As mlx-lm, models/switch_layers.py, _quantize_experts."""
    parts = {"weight": [], "scales": [], "values": [], "global_scale": []}
    for _ in range(2):
        matrix = mx.array(rng.normal(0, 1, (3, 64)).astype(np.float32))
        scale = mx.max(mx.abs(matrix))
        words, scales = mx.quantize(matrix, mode="nvfp4", global_scale=scale)
        values = mx.dequantize(words, scales, mode="nvfp4", global_scale=scale, dtype=mx.float32)
        for name, value in (("weight", words), ("scales", scales), ("values", values), ("global_scale", scale)):
            parts[name].append(value)
    return {name: mx.stack(values) for name, values in parts.items()}


def main():
    mx.set_default_device(mx.cpu)
    rng = np.random.default_rng(5)
    forms = {}
    for bits in (1, 2, 3, 4, 5, 6, 8):
        for group, kind in ((32, "bf16"), (64, "f16"), (128, "f32"), (48, "bf16"), (20, "f16")):
            forms[f"affine_{bits}_{group}_{kind}"] = affine(rng, bits, group, kind)
    for mode in ("mxfp4", "mxfp8", "nvfp4"):
        forms[mode] = floating(rng, mode, (4, 96))
    forms["nvfp4_experts"] = experts(rng)
    tensors = {f"{name}.{part}": value for name, parts in forms.items() for part, value in parts.items()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(OUT), tensors)


if __name__ == "__main__":
    main()
