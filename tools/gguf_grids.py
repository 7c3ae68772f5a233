"""Writes src/io/gguf/grids.cpp: the code books of GGUF's i-quants, packed as the `gguf` package packs them.

    python tools/gguf_grids.py > src/io/gguf/grids.cpp
"""
import numpy as np
from gguf import quants

GRIDS = [
    ("kIq2XxsGrid", quants.IQ2_XXS, 2, "eight 2-bit codes of 8, 25, 43"),
    ("kIq2XsGrid", quants.IQ2_XS, 2, "eight 2-bit codes of 8, 25, 43"),
    ("kIq2SGrid", quants.IQ2_S, 2, "eight 2-bit codes of 8, 25, 43"),
    ("kIq3XxsGrid", quants.IQ3_XXS, 4, "four 4-bit codes of 4, 12, 20, 28, 36, 44, 52, 62"),
    ("kIq3SGrid", quants.IQ3_S, 4, "four 4-bit codes of 1, 3, 5, 7, 9, 11, 13, 15"),
    ("kIq1Grid", quants.IQ1_S, 2, "eight 2-bit codes of -1, 0, 1"),
]
PER_LINE = 12


def entries(quant) -> list[int]:
    packed = np.frombuffer(bytes.fromhex(quant.grid_hex.decode()), dtype="<u2")
    assert len(packed) == quant.grid_shape[0]
    return packed.tolist()


def main() -> None:
    print("// Code books of the i-quants: format constants of GGUF, one entry of codes per 16 bits, the first code lowest.")
    print("// Written by tools/gguf_grids.py from the `gguf` package (quants.py); edit that.")
    print('#include "io/gguf/grids.h"\n\nnamespace plumb {')
    for name, quant, _, codes in GRIDS:
        values = entries(quant)
        print(f"\n// {codes}\nconst std::array<std::uint16_t, {len(values)}> {name} = {{")
        for start in range(0, len(values), PER_LINE):
            print("    " + " ".join(f"0x{value:04x}," for value in values[start:start + PER_LINE]))
        print("};")
    print("\n}  // namespace plumb")


if __name__ == "__main__":
    main()
