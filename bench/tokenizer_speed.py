"""Plumb's encoding against the `tokenizers` package on one megabyte of mixed text, one thread each.

Usage: python bench/tokenizer_speed.py build/release [TOKENIZER.JSON or VOCABULARY.GGUF ...]

Without files: the fixtures of tests/data, and the real vocabularies of ../shared/fixtures/vocabs where those are there. What GGUF names is
rebuilt for the package: tokens and merges (or scores), the patterns of tests/data/tokenizers/patterns.
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
import gguf  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers  # noqa: E402  (reads the environment)

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


def merges_of_scores(tokens, scores):
    """SentencePiece merges any neighbours that are a piece together, the highest score first (transformers, generate_merges)."""
    ids = {token: i for i, token in enumerate(tokens)}
    pairs = [(scores[i], len(token[:cut]), token[:cut], token[cut:]) for token, i in ids.items() for cut in range(1, len(token))
             if token[:cut] in ids and token[cut:] in ids]
    return [(left, right) for _, _, left, right in sorted(pairs, key=lambda pair: pair[:2], reverse=True)]


def from_gguf(path) -> Tokenizer:
    fields = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    ids = {token: i for i, token in enumerate(tokens)}
    if fields["tokenizer.ggml.model"] == "llama":
        merges = merges_of_scores(tokens, fields["tokenizer.ggml.scores"])
        tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
        tokenizer = Tokenizer(models.BPE(ids, merges))
        name = {"gpt-2": "gpt2", "mpt": "gpt2", "refact": "starcoder"}.get(fields["tokenizer.ggml.pre"], fields["tokenizer.ggml.pre"])
        file = ROOT / "tests/data/tokenizers/patterns" / f"{name.replace('-', '_')}.json"
        patterns = json.loads(file.read_text())[0]["patterns"]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [*(pre_tokenizers.Split(Regex(p), "isolated") for p in patterns), pre_tokenizers.ByteLevel(False, use_regex=False)])
        if name == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
    control, user = [[t for t, kind in zip(tokens, types) if kind == k] for k in (3, 4)]
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in user])
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in control])
    return tokenizer


def main() -> None:
    build = pathlib.Path(sys.argv[1])
    names = ["gpt2", "llama3", "qwen2", "deepseek_v3", "o200k", "llama2", "gemma", "unigram_bytes"]
    files = [pathlib.Path(name) for name in sys.argv[2:]] or [
        *(ROOT / "tests/data/tokenizers" / n / "tokenizer.json" for n in names),
        *sorted((ROOT.parent / "shared/fixtures/vocabs").glob("*.gguf"))]
    text = mixed_text()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text"
        path.write_text(text)
        for file in files:
            environment = os.environ | {"PLUMB_BENCH_TOKENIZER": str(file), "PLUMB_BENCH_TEXT": str(path)}
            command = [build / "bench" / "bench_tokenizer_speed", "--benchmark_format=json"]
            output = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
            ours = json.loads(output)["benchmarks"][0]["cpu_time"] / 1e3
            tokenizer = from_gguf(file) if file.suffix == ".gguf" else Tokenizer.from_file(str(file))
            times = []
            for _ in range(3):
                begin = time.process_time()
                tokenizer.encode(text, add_special_tokens=False)
                times.append(time.process_time() - begin)
            theirs = min(times)
            name = file.stem.removeprefix("ggml-vocab-") if file.suffix == ".gguf" else file.parent.name
            print(f"{name:16} plumb {1 / ours:6.1f} MB/s  tokenizers {1 / theirs:6.1f} MB/s  {theirs / ours:5.1f} times", flush=True)


if __name__ == "__main__":
    main()
