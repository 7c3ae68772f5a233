"""Compares the quantisation errors of `plumb convert` with those of llama.cpp's llama-quantize, tensor by tensor.

    python tools/quantisation_errors.py --plumb build/release/plumb --llama-quantize PATH MODEL > docs/quantisation.md

Both start from the same GGUF file in F32 that plumb writes from MODEL. The error of a tensor is the root of its weighted mean
squared error over the root of its weighted mean square, each element weighing its magnitude plus the root mean square of its
group of 32: what K-quants minimise. llama-quantize comes with llama.cpp (the PyPI source of llama-cpp-python builds it).
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

TYPES = ["Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0"]
GROUP = 32

HEAD = """# Quantisation

`plumb convert MODEL OUT.gguf --type TYPE` stores weights as llama-quantize does without an importance matrix: the same type for each
tensor, blocks of 32 to the bit, K-quants by a search of our own. The table has the weighted relative error of each kind of tensor,
pooled over the layers, for files that both programs write from the same F32 file. It is written by

    {command}

An element weighs its magnitude plus the root mean square of its group of 32.
"""


def tensors(path: Path) -> dict:
    return {t.name: (t.tensor_type, dequantize(t.data, t.tensor_type)) for t in GGUFReader(path).tensors}


def squares(exact: np.ndarray, stored: np.ndarray) -> tuple[float, float]:
    x = exact.astype(np.float64).reshape(-1, GROUP)
    y = stored.astype(np.float64).reshape(-1, GROUP)
    weight = np.abs(x) + np.sqrt((x * x).mean(axis=1, keepdims=True))
    return float((weight * (x - y) ** 2).sum()), float((weight * x * x).sum())


def kind(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[2:] if parts[0] == "blk" else parts)


def compare(exact: dict, ours: dict, theirs: dict) -> list[tuple]:
    pooled: dict = {}
    for name, (_, values) in exact.items():
        if values.ndim < 2 or values.shape[-1] % GROUP or name not in theirs:
            continue
        (our_type, our_values), (their_type, their_values) = ours[name], theirs[name]
        if our_type != their_type:
            sys.exit(f"{name}: {our_type.name} here, {their_type.name} there")
        entry = pooled.setdefault((kind(name), our_type.name), [0.0, 0.0, 0.0, True])
        error, size = squares(values, our_values)
        entry[0] += error
        entry[1] += squares(values, their_values)[0]
        entry[2] += size
        entry[3] &= bool((our_values == their_values).all())
    return [(*key, (e[0] / e[2]) ** 0.5, (e[1] / e[2]) ** 0.5, e[3]) for key, e in pooled.items() if e[1] > 0 or e[0] > 0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--plumb", type=Path, required=True)
    parser.add_argument("--llama-quantize", type=Path, required=True)
    arguments = parser.parse_args()
    print(HEAD.format(command=f"python tools/quantisation_errors.py --plumb build/release/plumb --llama-quantize PATH {arguments.model}"))
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        f32 = Path(folder) / "f32.gguf"
        subprocess.run([arguments.plumb, "convert", arguments.model, f32, "--type", "F32"], check=True, stderr=subprocess.DEVNULL)
        exact = tensors(f32)
        for name in TYPES:
            ours, theirs = Path(folder) / f"ours-{name}.gguf", Path(folder) / f"theirs-{name}.gguf"
            subprocess.run([arguments.plumb, "convert", f32, ours, "--type", name], check=True, stderr=subprocess.DEVNULL)
            subprocess.run([arguments.llama_quantize, f32, theirs, name, "1"], check=True, capture_output=True)
            print(f"## {name}\n\n| tensor | stored as | plumb | llama-quantize | plumb / llama-quantize |\n|---|---|---|---|---|")
            for tensor, stored, our, their, same in sorted(compare(exact, tensors(ours), tensors(theirs))):
                worst = max(worst, our / their)
                print(f"| {tensor} | {stored} | {our:.5f} | {their:.5f} | {'equal to the bit' if same else f'{our / their:.3f}'} |")
            print()
    print(f"The largest ratio is {worst:.3f}.")


if __name__ == "__main__":
    main()
