"""Plumb's tokenizers against the `tokenizers` package on random Unicode: every kind of every stage, 20,000 strings.

The seed is printed (live_seed.py tells how to take another); PLUMB_STRINGS asks for more strings.
"""

import base64
import json
import os
import pathlib
import random
import re
import subprocess

import pytest
from live_seed import SEED
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

ROOT = pathlib.Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "tokenizers"
STRINGS = int(os.environ.get("PLUMB_STRINGS", 20_000))
FOLDERS = sorted(path.parent.name for path in DATA.glob("*/tokenizer.json"))

# Code points that the stages tell apart, and ends of tables.
RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x61, 0x7A), (0x30, 0x39), (0x00, 0x1F), (0x7F, 0xFF), (0x100, 0x24F),
    (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF),
    (0x1AB0, 0x1AFF), (0x1C80, 0x1C8F), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x2100, 0x218F),
    (0x2460, 0x24FF), (0x2E00, 0x2E7F), (0x3000, 0x30FF), (0x3400, 0x3410), (0x4E00, 0x9FFF), (0xA640, 0xA7FF),
    (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE2F), (0xFF00, 0xFFEF), (0x10D40, 0x10D8F),
    (0x11DE0, 0x11DE9), (0x16EA0, 0x16ED3), (0x1D400, 0x1D7FF), (0x1F100, 0x1F1FF), (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF),
    (0x20000, 0x2A6DF), (0xE0000, 0xE007F), (0x10FFF0, 0x10FFFF), (0x0, 0x10FFFF),
]  # fmt: skip
PARTS = [
    " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u0085", "'s", "'S", "'ll", "'\u017f", "n't", "don't",
    "\u2581", "\u2581\u2581", "e\u0301", "\u1100\u1161\u11a8", "\ufb01", "\u212b", "A\u030a", "\u0130", "\u03a3", "\u2126",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "\u0915\u094d\u0937", "\ufffd", "\u200b", "\ufeff",
    "<0x41>", "<|endoftext|>", "<|im_start|>", "<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "##", "1234567", "Hello", "world",
    "HELLO", "Hello world", "function", "return", "\u6771\u4eac", "\u4f60\u597d",
]  # fmt: skip


def random_text(rng, parts):
    out = []
    for _ in range(rng.randrange(1, 14)):
        kind = rng.random()
        if kind < 0.4:
            out.append(rng.choice(parts))
        elif kind < 0.5:
            out.append(rng.choice(" \n\t\u0301a1<") * rng.randrange(1, 12))
        else:
            low, high = rng.choice(RANGES)
            out.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 6))))
    return re.sub("[\ud800-\udfff]", "\u00e9", "".join(out))


def words(rng):
    letters = "abcdehlorstu019.,!?'-\u00e9\u00fc\u0436\u4e2d\u6587\u3042\u1100\u1161\u0301"
    return sorted({"".join(rng.choices(letters, k=rng.randrange(1, 4))) for _ in range(700)} | set(letters))


def word_piece(rng):
    pieces = ["[UNK]", "[CLS]", "[SEP]", *words(rng)]
    pieces += ["##" + piece for piece in pieces[3:]]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    return tokenizer


def bert(rng, **options):
    tokenizer = word_piece(rng)
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def word_level(rng):
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(["<unk>", "Hello", "world", *words(rng)])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def characters(pre_tokenizer=None, normalizer=None):
    """The byte-level vocabulary of gpt2 without merges: its ids show every byte that a normalizer leaves."""
    data = json.loads((DATA / "gpt2" / "tokenizer.json").read_text())
    stages = [pre_tokenizer] if pre_tokenizer else []
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*stages, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def charsmap():
    """The map nmt_nfkc, out of a model that sentencepiece trains."""
    import io

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world", "the cat sat"] * 50), model_writer=model, vocab_size=30, hard_vocab_limit=False
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def split(pattern, behavior, invert=False):
    return characters(pre_tokenizers.Split(pattern, behavior, invert))


MADE = {
    "word_piece": lambda rng: word_piece(rng),
    "bert": lambda rng: bert(rng),
    "bert_cased": lambda rng: bert(rng, lowercase=False),
    "bert_accents": lambda rng: bert(rng, lowercase=False, strip_accents=True, clean_text=False, handle_chinese_chars=False),
    "word_level": word_level,
    "nfc": lambda rng: characters(normalizer=normalizers.NFC()),
    "nfd": lambda rng: characters(normalizer=normalizers.NFD()),
    "nfkc": lambda rng: characters(normalizer=normalizers.NFKC()),
    "nfkd": lambda rng: characters(normalizer=normalizers.NFKD()),
    "lowercase": lambda rng: characters(normalizer=normalizers.Lowercase()),
    "strip_accents": lambda rng: characters(normalizer=normalizers.StripAccents()),
    "strip_left": lambda rng: characters(normalizer=normalizers.Strip(left=True, right=False)),
    "replace": lambda rng: characters(normalizer=normalizers.Replace(Regex(r"\p{L}{2}|\d+"), "x\u00e9")),
    "precompiled": lambda rng: characters(normalizer=normalizers.Precompiled(charsmap())),
    "punctuation": lambda rng: characters(pre_tokenizers.Punctuation("removed")),
    "digits": lambda rng: characters(pre_tokenizers.Digits(individual_digits=False)),
    "whitespace": lambda rng: characters(pre_tokenizers.Whitespace()),
    "whitespace_split_metaspace": lambda rng: characters(
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")])
    ),
    "split_previous": lambda rng: split(Regex(r"\s|\p{P}"), "merged_with_previous"),
    "split_next": lambda rng: split(Regex(r"\s|\p{P}"), "merged_with_next"),
    "split_contiguous": lambda rng: split(Regex(r"[\s\d]"), "contiguous"),
    "split_removed_inverted": lambda rng: split(Regex(r"\w+"), "removed", True),
    "split_empty": lambda rng: split(Regex(r"a*"), "isolated"),
    "split_lazy": lambda rng: split(Regex(r"[a-z]+?\d|\p{Lu}{2,3}?"), "isolated"),
    "split_ahead": lambda rng: split(Regex(r"\s+(?=\p{L})|\p{L}+(?!\p{L}|\d)"), "isolated"),
    "split_possessive": lambda rng: split(Regex(r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s"), "isolated"),
    "split_line_end": lambda rng: split(Regex(r"\s+$|."), "isolated"),
    "split_nested": lambda rng: split(Regex(r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), "isolated"),
    "split_intersection": lambda rng: split(Regex(r"[\p{L}&&[^a-m]]+"), "isolated"),
    "split_string": lambda rng: split(" ", "merged_with_previous"),
}  # fmt: skip


def answers(tool, path, texts):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run([tool, path], input=lines.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def repeats_passed_space(text):
    """The library emits an added token of white space once more that another token's rstrip has taken along."""
    return re.search("(?i:<right>|<both>|<soft>)\\s*(    |\n\n)", text) is not None


@pytest.mark.parametrize("name", [*FOLDERS, *MADE])
def test_random_unicode(name, tmp_path):
    tool = pathlib.Path(os.environ.get("PLUMB_BINARY", ROOT / "build/release/plumb")).parent / "tests" / "tokenizer_lines_tool"
    rng = random.Random(f"{SEED} {name}")
    print("PLUMB_LIVE_SEED", SEED)
    path = tmp_path / "tokenizer.json"
    tokenizer = MADE[name](rng) if name in MADE else Tokenizer.from_file(str(DATA / name / "tokenizer.json"))
    tokenizer.save(str(path))
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    parts = PARTS + added * 2
    texts = [random_text(rng, parts) for _ in range(STRINGS // (len(FOLDERS) + len(MADE)) + 1)]
    plain = Tokenizer.from_file(str(path))
    plain.encode_special_tokens = True
    differences = []
    for text, answer in zip(texts, answers(tool, path, texts), strict=True):
        if name == "added_tokens" and repeats_passed_space(text):
            continue
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        with_special = tokenizer.encode(text).ids
        expected = {
            "ids": ids,
            "ids_with_special": with_special,
            "ids_as_text": plain.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "decoded_skip": tokenizer.decode(with_special, skip_special_tokens=True),
        }
        if "\ufffd" not in expected["decoded"]:  # which a stream holds back, and byte fallback spreads
            expected["streamed"] = expected["decoded"]
        if name == "added_tokens_normalized":  # the library does not skip a special token in its normalized form
            expected["decoded_skip"] = expected["decoded_skip"].replace("<ctrl>", "")
        for key, value in expected.items():
            if answer[key] != value:
                differences.append((text, key, value, answer[key]))
    assert not differences, f"PLUMB_LIVE_SEED={SEED}: {len(differences)} of {len(texts)}, first: {differences[:3]!r}"
