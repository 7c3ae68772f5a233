"""Number types of a trace: the names that safetensors gives them, and their values in NumPy, which has no bfloat16 and no 8-bit
floats."""

from __future__ import annotations

import numpy as np

# Stored as they are in NumPy.
NATIVE = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# Stored as bits of these types, seen as float32, which holds each of their values exactly.
WIDENED = {"BF16": np.dtype("<u2"), "F8_E4M3": np.dtype("u1"), "F8_E5M2": np.dtype("u1"), "F8_E8M0": np.dtype("u1")}
# By the names that torch, MLX, ml_dtypes and a manifest give them.
BY_NAME = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "bool_": "BOOL",
}
_SAFETENSORS_NAME = {dtype: name for name, dtype in BY_NAME.items() if name != "bool_"}


def dtype_name(name: str) -> str:
    """The safetensors name ("BF16") of a number type by any of its names ("bfloat16", "BF16"). ValueError when there is none."""
    name = name.removeprefix("torch.").removeprefix("mlx.core.")
    found = name if name in NATIVE or name in WIDENED else BY_NAME.get(name)
    if found is None:
        raise ValueError(f"number type {name!r} is not known; known are {', '.join(sorted(BY_NAME))}")
    return found


def safetensors_writer_name(dtype: str) -> str:
    return _SAFETENSORS_NAME[dtype]


def storage_of(dtype: str) -> np.dtype:
    """The NumPy type that holds the stored bits."""
    return NATIVE.get(dtype) or WIDENED[dtype]


def values_of(bits: np.ndarray, dtype: str) -> np.ndarray:
    """What stored bits mean: native types as they are, the others exactly as float32."""
    if dtype in NATIVE:
        return bits
    if dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return _TABLES[dtype][bits]


def bits_of(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values as they are stored under `dtype`, rounded to nearest even for bfloat16. ValueError where a value would be lost: an
    integer out of range, or any type that this package only reads."""
    if values.dtype.name == "bfloat16":  # ml_dtypes: the bits themselves
        if dtype != "BF16":
            return bits_of(values.astype(np.float32), dtype)
        return np.ascontiguousarray(values).view(np.uint16)
    if dtype == "BF16":
        return _round_to_bfloat16(values)
    if dtype in WIDENED:
        raise ValueError(f"{dtype} is read, never written: store the values as float32")
    target = NATIVE[dtype]
    if target.kind in "iu" and values.size:
        limits = np.iinfo(target)
        if values.dtype.kind not in "iub" or values.min() < limits.min or values.max() > limits.max:
            raise ValueError(f"values of type {values.dtype} do not all fit into {dtype}")
    return np.ascontiguousarray(values, dtype=target)


def dtype_of(values: np.ndarray) -> str:
    """The stored type of an array that comes without one. ValueError for complex numbers, text and the like."""
    return dtype_name(values.dtype.name)


def _round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"values of type {values.dtype} are no numbers that bfloat16 holds")
    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(single), np.uint16(0x7FC0) | ((bits >> 16) & 0x8000).astype(np.uint16), rounded)


def _small_float_table(exponent_bits: int, mantissa_bits: int, bias: int, ieee: bool) -> np.ndarray:
    """float32 value of each code of a signed 8-bit float; `ieee`: the highest exponent means infinity and NaN."""
    codes = np.arange(256)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = codes & ((1 << mantissa_bits) - 1)
    fraction = np.where(exponent > 0, 1 + mantissa / (1 << mantissa_bits), mantissa / (1 << mantissa_bits))
    values = fraction * np.exp2(np.maximum(exponent, 1) - bias)
    highest = exponent == (1 << exponent_bits) - 1
    if ieee:
        values = np.where(highest, np.where(mantissa == 0, np.inf, np.nan), values)
    else:
        values = np.where(highest & (mantissa == (1 << mantissa_bits) - 1), np.nan, values)
    return np.where(codes >= 128, -values, values).astype(np.float32)


_E8M0 = np.exp2(np.arange(256, dtype=np.float64) - 127)
_E8M0[255] = np.nan  # the microscaling specification
_TABLES = {
    "F8_E4M3": _small_float_table(4, 3, 7, ieee=False),
    "F8_E5M2": _small_float_table(5, 2, 15, ieee=True),
    "F8_E8M0": _E8M0.astype(np.float32),
}
