"""Whether llama.cpp reads the tokenizers that `plumb convert` writes as they were: each fixture's ids, by its own llama-tokenize.

Usage: python tools/llama_cpp_tokenizers.py build/release/plumb path/to/llama-tokenize

Prints a line for each fixture of tests/data/tokenizers: how many of its strings llama.cpp gives the same ids for, and the names of the
others. docs/tokenizers.md says why those differ.
"""
import ast
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python"))
from test_convert_tokenizers import checkpoint_in  # noqa: E402

DATA = ROOT / "tests" / "data" / "tokenizers"


def ids_of(program, model, text, folder, parse_special):
    path = pathlib.Path(folder) / f"{abs(hash(text))}-{parse_special}.txt"
    path.write_bytes(text.encode())
    flags = [] if parse_special else ["--no-parse-special"]
    done = subprocess.run([program, "-m", model, "-f", path, "--ids", "--no-bos", "--no-escape", "--log-disable", *flags], capture_output=True)
    try:
        return ast.literal_eval(done.stdout.decode().strip().splitlines()[-1])
    except (IndexError, SyntaxError, ValueError):
        return f"exit {done.returncode}: {done.stderr.decode(errors='replace')[-200:]}"


def main():
    plumb, program = sys.argv[1], sys.argv[2]
    for folder in sorted(path.parent for path in DATA.glob("*/tokenizer.json")):
        with tempfile.TemporaryDirectory() as scratch:
            source = checkpoint_in(pathlib.Path(scratch))
            (source / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
            out = pathlib.Path(scratch) / "model.gguf"
            done = subprocess.run([plumb, "convert", source, out, "--type", "F32"], capture_output=True, text=True)
            if done.returncode != 0:
                print(f"{folder.name:24} not written: {done.stderr.strip().split('tokenizer.json: ')[-1]}", flush=True)
                continue
            cases = json.loads((folder / "cases.json").read_text())
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                parsed = list(pool.map(lambda case: ids_of(program, out, case["text"], scratch, True), cases))
                plain = list(pool.map(lambda case: ids_of(program, out, case["text"], scratch, False), cases))
            wrong = [case["name"] for case, a, b in zip(cases, parsed, plain, strict=True) if (a, b) != (case["ids"], case["ids_as_text"])]
            print(f"{folder.name:24} {len(cases) - len(wrong)} of {len(cases)}; not: {', '.join(wrong) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
