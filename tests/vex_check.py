#!/usr/bin/env python3
"""Holds the kernels of AVX-VNNI to processors that have no AVX-512: python3 tests/vex_check.py OBJDUMP AR ARCHIVE TWIN

ARCHIVE holds avxvnni.cpp's object; TWIN is that of tests/avxvnni_evex.cpp, which tests run in its place on processors with AVX-512. What is held:
no instruction of the former is EVEX-coded, of the latter vpdpbusd and vpdpwssd alone, and but for these two's code both are the same, instruction by
instruction: what a test says of the one is true of the other. Each finding is one line; the exit status is 1 if there was one.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

LINE = re.compile(r"^ *[0-9a-f]+:\t((?:[0-9a-f]{2} )+) *(?:\t(.*))?$")
PADDING = re.compile(r"(?:(?:data16|cs|ds) )*(?:nop[wl]?\b|xchg +%ax,%ax)")  # what aligns jumps depends on the lengths of what is before
PLACE = re.compile(r"\b[0-9a-f]+ <.*>|# .*|<.*>")
SUMS = re.compile(r"vpdp(?:busd|wssd)\b")


def instructions(objdump, path):
    """[(first byte of the code, text without places and without {vex} and {evex})] of what runs after main() has begun."""
    text = subprocess.run([objdump, "-d", "-w", path], capture_output=True, text=True, check=True).stdout
    found, startup = [], False
    for line in text.splitlines():
        if line.startswith("Disassembly of section"):
            startup = ".startup" in line
        match = LINE.match(line)
        if match is None or match.group(2) is None or startup or PADDING.match(match.group(2)):
            continue
        words = PLACE.sub("", re.sub(r"\{e?vex\} ", "", match.group(2)))
        found.append((match.group(1)[:2], words.strip()))
    return found


def findings(real, twin):
    evex = [text for first, text in real if first == "62"]  # in 64-bit code nothing else begins so
    if evex:
        yield f"avxvnni.cpp has {len(evex)} EVEX-coded instructions, such as: {evex[0]}"
    for name in ("vpdpbusd", "vpdpwssd"):
        if not any(text.startswith(name) for _, text in real):
            yield f"avxvnni.cpp has no {name}"
    for first, text in twin:
        if (first == "62") != bool(SUMS.match(text)):
            yield f"avxvnni_evex.cpp: only vpdpbusd and vpdpwssd are to be EVEX-coded, and all of them: {first} {text}"
            break
    for number, (own, other) in enumerate(zip(real, twin)):
        if own[1] != other[1]:
            yield f"instruction {number} is {own[1]} in avxvnni.cpp and {other[1]} in avxvnni_evex.cpp"
            break
    if len(real) != len(twin):
        yield f"avxvnni.cpp has {len(real)} instructions, avxvnni_evex.cpp {len(twin)}"


def main():
    objdump, ar, archive, twin = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ar, "x", str(pathlib.Path(archive).resolve()), "avxvnni.cpp.o"], cwd=folder, check=True)
        real = instructions(objdump, f"{folder}/avxvnni.cpp.o")
    found = list(findings(real, instructions(objdump, twin)))
    for line in found:
        print(line)
    print(f"{len(real)} instructions, {sum(bool(SUMS.match(text)) for _, text in real)} of them vpdpbusd and vpdpwssd: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
