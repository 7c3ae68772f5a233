"""How far each way of computing is from the fp64 reference on the same stored weights; prints Markdown for docs/numerics.md.

Usage: python bench/numerics.py PLUMB FILE.gguf[=PROMPTS.txt]... [--llama LLAMA.CPP-SOURCE] [--build BUILD]
       [--prompts 4] [--tokens 96] [--threads N] [--modes "cpu, exact;cpu, auto"] [--into docs/numerics.md]

Of each position: KL(fp64 || mode) of the next token's distribution in nats, whether both find the same token the likeliest, and
the relative L2 distance of the logits. FILE.gguf=PROMPTS.txt reads prompts from a text, one a line; else they are ids drawn at
random. --llama also runs llama.cpp on the file, with its default cache (f16) and with f32; it needs a compiler. Weights at random
spread errors more than trained ones do: read the rows of one file against each other.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

BEGIN, END = "<!-- measured by bench/numerics.py -->\n", "<!-- end of what was measured -->\n"
MODES = {"reference, fp32": "--precision fp32", "cpu, exact": "--executor cpu --activations exact",
         "cpu, auto": "--executor cpu --activations auto"}


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def prompts_of(arguments, file, text):
    """Lists of ids."""
    if text:
        lines = pathlib.Path(text).read_text().splitlines()
        return [json.loads(call(arguments.plumb, "tokenize", file, line))["ids"] for line in lines]
    vocabulary = json.loads(call(arguments.plumb, "show", file, "--json"))["config"]["vocab_size"]
    draw = np.random.default_rng(1)
    return draw.integers(0, vocabulary, (arguments.prompts, arguments.tokens)).tolist()


class Logits:
    """Of all prompts' positions, one row each, in scratch files."""

    def __init__(self, arguments, file, text, scratch):
        self.arguments, self.file, self.scratch = arguments, file, scratch
        self.prompts = prompts_of(arguments, file, text)

    def plumb(self, options):
        rows = []
        for prompt in self.prompts:
            out = self.scratch / "logits.safetensors"
            call(self.arguments.plumb, "logits", self.file, "--ids", ",".join(map(str, prompt)), "--save", out,
                 "--threads", self.arguments.threads, *options.split())
            rows.append(load_file(out)["logits"])
        return np.concatenate(rows)

    def llama(self, program, cache):
        ids, out = self.scratch / "ids", self.scratch / "logits"
        ids.write_text("".join(",".join(map(str, prompt)) + "\n" for prompt in self.prompts))
        call(program, self.file, ids, out, self.arguments.threads, cache)
        return np.fromfile(out, np.float32).reshape(sum(map(len, self.prompts)), -1)


def compile_llama(arguments, scratch):
    """The program of bench/llama/logits.cpp; none without --llama."""
    if not arguments.llama:
        return None
    program = scratch / "llama-logits"
    libraries = (arguments.build or arguments.llama / "build") / "bin"
    source = pathlib.Path(__file__).parent / "llama" / "logits.cpp"
    call("c++", "-std=c++17", "-O1", source, f"-I{arguments.llama / 'include'}", f"-I{arguments.llama / 'ggml' / 'include'}",
         f"-L{libraries}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}", "-o", program)
    return program


def log_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def compare(reference, logits):
    """(mean KL, largest KL, share of equal top-1, relative L2) over all rows, a block of rows at a time."""
    divergence, equal = [], []
    for begin in range(0, len(reference), 32):
        p, q = log_softmax(reference[begin : begin + 32]), log_softmax(logits[begin : begin + 32])
        divergence.append((np.exp(p) * (p - q)).sum(axis=1))
        equal.append(p.argmax(axis=1) == q.argmax(axis=1))
    divergence = np.concatenate(divergence)
    distance = np.linalg.norm((logits - reference).ravel()) / np.linalg.norm(reference.ravel())
    return divergence.mean(), divergence.max(), np.concatenate(equal).mean(), distance


def measure(arguments, name, program, scratch):
    file, _, text = name.partition("=")
    file = pathlib.Path(file)
    logits = Logits(arguments, file, text, scratch)
    reference = logits.plumb("--precision fp64")
    runs = {mode: lambda options=MODES[mode]: logits.plumb(options) for mode in arguments.modes.split(";")}
    if program:
        for cache in ("f16", "f32"):
            runs[f"llama.cpp, {cache} cache"] = lambda cache=cache: logits.llama(program, cache)
    for mode, compute in runs.items():
        mean, largest, equal, distance = compare(reference, compute())
        yield f"| {file.stem} | {mode} | {mean:.1e} | {largest:.1e} | {100 * equal:.1f} % | {distance:.1e} |", len(reference)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plumb", type=pathlib.Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--llama", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--modes", default=";".join(MODES), help=f"of {'; '.join(MODES)}")
    parser.add_argument("--into", type=pathlib.Path)
    arguments = parser.parse_args()
    lines = ["| file | computed by | KL to fp64, mean | largest | same top-1 | logits, relative L2 |",
             "|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        program = compile_llama(arguments, scratch)
        for file in arguments.files:
            for line, positions in measure(arguments, file, program, scratch):
                print(line, flush=True)
                lines.append(line)
            counts.append(f"{pathlib.Path(file.partition('=')[0]).stem} {positions}")
    lines += ["", f"Positions compared: {', '.join(counts)}."]
    print("\n".join(lines[-2:]))
    if arguments.into:
        document = arguments.into.read_text()
        if document.count(BEGIN) != 1 or document.count(END) != 1:
            sys.exit(f"{arguments.into}: needs the lines {BEGIN.strip()} and {END.strip()}, once each")
        before, rest = document.split(BEGIN)
        arguments.into.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
