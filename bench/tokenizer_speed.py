"""Plumb's encoding against the `tokenizers` package on one megabyte of mixed text, one thread each.

Usage: python bench/tokenizer_speed.py build/release [TOKENIZER.JSON ...]
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer  # noqa: E402  (reads the environment when it is imported)

ROOT = pathlib.Path(__file__).parents[1]
MEGABYTE = 1_000_000


def mixed_text() -> str:
    """Lines of the project's own code and prose, Chinese and Japanese, and runs of white space, in random order."""
    rng = random.Random(1)
    code = [line for path in sorted((ROOT / "src").glob("*/*.cpp")) for line in path.read_text().splitlines()]
    prose = [line for path in sorted(ROOT.glob("**/*.md")) if "build" not in path.parts for line in path.read_text().splitlines()]
    cjk = ["".join(rng.choice("\u7684\u4e00\u662f\u4e0d\u4e86\u4eba\u6211\u5728\u6709\u4ed6\u3053\u306e\u3067\u3059\u6771\u4eac") for _ in range(40)) for _ in range(500)]
    spaces = [" " * n for n in range(1, 40)]
    lines, size = [], 0
    while size < MEGABYTE:
        lines.append(rng.choice(rng.choice([code, code, prose, cjk, spaces])))
        size += len(lines[-1].encode()) + 1
    return "\n".join(lines)


def main() -> None:
    build = pathlib.Path(sys.argv[1])
    names = ["gpt2", "llama3", "qwen2", "deepseek_v3", "o200k", "llama2", "gemma", "unigram_bytes"]
    files = [pathlib.Path(name) for name in sys.argv[2:]] or [ROOT / "tests/data/tokenizers" / n / "tokenizer.json" for n in names]
    text = mixed_text()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text"
        path.write_text(text)
        for file in files:
            environment = os.environ | {"PLUMB_BENCH_TOKENIZER": str(file), "PLUMB_BENCH_TEXT": str(path)}
            command = [build / "bench" / "bench_tokenizer_speed", "--benchmark_format=json"]
            output = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
            ours = json.loads(output)["benchmarks"][0]["cpu_time"] / 1e3
            tokenizer = Tokenizer.from_file(str(file))
            times = []
            for _ in range(3):
                begin = time.process_time()
                tokenizer.encode(text, add_special_tokens=False)
                times.append(time.process_time() - begin)
            theirs = min(times)
            print(f"{file.parent.name:16} plumb {1 / ours:6.1f} MB/s  tokenizers {1 / theirs:6.1f} MB/s  {theirs / ours:5.1f} times", flush=True)


if __name__ == "__main__":
    main()
