"""The pre-tokenizers that GGUF names and no fixture has: patterns of the models' own files, against the `tokenizers` package.

Each is written here once more, from llama.cpp's llama-vocab.cpp (its "original regex" where it gives one) or the model's repository.
Every pair of bytes is a token, so that a word cut elsewhere gives other ids. PLUMB_SEED repeats a run.
"""
import json
import random
import subprocess

import gguf
import pytest
from test_tokenizers_live import DATA, PARTS, SEED, answers, random_text
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

TEXTS = 400
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(digits, end, but=""):
    """o200k and its relatives: words by case."""
    upper, lower = f"[{UPPER}{but}]", f"[{LOWER}{but}]"
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{CONTRACTIONS}?"
            rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+{end}*|" + TAIL)


PATTERNS = {
    "jais-2": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
               + "".join(rf"\s{{{n}}}(?!\S)|" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"\s{1,2}(?!\S)|\s{1}"],
    "spark2_5": [r"\p{N}{1,3}", "[一-龥\u3040-\u309f\u30a0-\u30ff]+",
                 r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]"""
                 r"""|\s+(?!\S)|\s+""", r"\p{N}"],
    "youtu": ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，\u3001-\u303f\ufe30-\ufe4f]+|[ㄅ-ㄯ]+|[一-龥\u3040-\u309f\u30a0-\u30ff]+",
              cased(r"\p{N}", r"[\r\n/]")],
    "kimi-k2": [r"[\p{Han}]+|" + cased(r"\p{N}{1,3}", r"[\r\n]", r"&&[^\p{Han}]")],
    "ufakzeka": [QWEN2.removeprefix(CONTRACTIONS + "|")],
    "laguna": [r"[^\n]+|[\n]+", QWEN2],
    "minicpm5": [r"\p{N}{1,3}", QWEN2.replace(r"|\p{N}|", r"|\p{N}+|")],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", cased(r"\p{N}{1,3}", r"[\r\n/]")],
    "chameleon": [r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
                  r"[\p{P}!-/:-@\[-`{-~]", GPT2],
    "granite-embed-multi-97m": [cased(r"\p{N}{1,3}", r"[\r\n/]")],
}
MORE = ["1", "12", "123", "1234", "1234567a", "12345_", "١٢٣٤", "12 345", "1234.5678", "IMGIMGABCZ", "<sentinel:12>", "漢字kana", "한글", "ㄱ", "ㄅ",
        "、。", "「", "'S", "Turkish'de", " " * 9, " " * 300, "\n\n\n", "camelCaseWord", "HTTPServer", "々〆"]
IGNORES_MERGES = {"youtu", "minicpm5", "granite-embed-multi-97m"}


def tool(plumb_binary):
    return plumb_binary.parent / "tests" / "tokenizer_lines_tool"


def write(path, name, tokens, merges, types=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types(types or [gguf.TokenType.NORMAL] * len(tokens))
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


@pytest.mark.parametrize("name", PATTERNS)
def test_a_named_pattern_cuts_as_the_library(name, plumb_binary, tmp_path):
    rng = random.Random(f"{SEED} {name}")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in alphabet for b in alphabet]
    rng.shuffle(pairs)
    tokens = [*alphabet, *(a + b for a, b in pairs)]
    path = tmp_path / "vocabulary.gguf"
    write(path, name, tokens, [f"{a} {b}" for a, b in pairs])
    library = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs, ignore_merges=name in IGNORES_MERGES))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [*(pre_tokenizers.Split(Regex(p), "isolated") for p in PATTERNS[name]), pre_tokenizers.ByteLevel(False, use_regex=False)])
    library.decoder = decoders.ByteLevel()
    texts = MORE + [random_text(rng, PARTS + MORE) for _ in range(TEXTS)]
    got = answers(tool(plumb_binary), path, texts)
    wrong = [(text, answer["ids"]) for text, answer in zip(texts, got, strict=True) if answer["ids"] != library.encode(text).ids]
    assert not wrong, f"PLUMB_SEED={SEED}: {len(wrong)} of {len(texts)}, first {wrong[:2]!r}"


@pytest.mark.parametrize("name", ["gemma4", "sarvam-moe"])
def test_sentencepiece_pieces_in_a_byte_pair_file(name, plumb_binary, tmp_path):
    """Merges on the text itself; the fixture's BOS is not part of what the file says."""
    model = json.loads((DATA / "gemma" / "tokenizer.json").read_text())
    added = {token["content"]: token for token in model["added_tokens"]}
    ids = model["model"]["vocab"] | {content: token["id"] for content, token in added.items()}
    tokens = sorted(ids, key=ids.get)
    kind = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}
    types = [kind[added[t]["special"]] if t in added else gguf.TokenType.NORMAL for t in tokens]
    tokens = [t.replace("\u2581", " ") if t in added else t for t in tokens]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["model"]["merges"]]
    path = tmp_path / "vocabulary.gguf"
    write(path, name, tokens, merges, types)
    cases = json.loads((DATA / "gemma" / "cases.json").read_text())
    got = answers(tool(plumb_binary), path, [case["text"] for case in cases])
    wrong = {case["name"] for case, answer in zip(cases, got, strict=True) if answer["ids"] != case["ids"]}
    assert wrong == {"underscores", "own 4"}  # added tokens of U+2581 are written as spaces


def test_an_unknown_name_is_an_error(plumb_binary, tmp_path):
    path = tmp_path / "vocabulary.gguf"
    write(path, "afmoe", ["a", "b", "ab"], ["a b"])
    done = subprocess.run([plumb_binary, "tokenize", path, "ab"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"plumb: {path}: tokenizer.ggml.pre \"afmoe\" is not supported\n"
