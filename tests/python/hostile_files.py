"""The corpus of hostile files: what each is made of. test_hostile_files.py holds the sentence that each must produce.

The classes are those of past faults of engines: counts and sizes, products that wrap, data outside the file, vocabularies, patterns,
nesting, names that lead elsewhere, things that are no files.
"""
import json
import os
import shutil
import struct

import checkpoints

REPOSITORY = checkpoints.CHECKPOINTS.parents[2]
DEMO = REPOSITORY / "models" / "demo"
TOKENIZERS = REPOSITORY / "tests" / "data" / "tokenizers"
U8, U32, F32, STRING, ARRAY, U64 = 0, 4, 6, 8, 9, 10


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(kind, count, data=b""):
    return struct.pack("<IQ", kind, count) + data


def strings(*values):
    return array(STRING, len(values), b"".join(map(text, values)))


def tensor(name, shape, kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *(n % 2**64 for n in shape), kind, offset)


def gguf(pairs=(), tensors=(), data=b"", *, version=3, keys=None, count=None):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if count is None else count, len(pairs) if keys is None else keys)
    body = head + b"".join(pairs) + b"".join(tensors)
    return body + (b"" if not data else b"\0" * (-len(body) % 32) + data)


def vocabulary(tokens=("a", "b", "ab"), *more, model="gpt2", pre="gpt-2"):
    """A GGUF file that is nothing but a tokenizer."""
    return gguf([pair("general.architecture", STRING, text("llama")), pair("tokenizer.ggml.model", STRING, text(model)),
                 pair("tokenizer.ggml.pre", STRING, text(pre)), pair("tokenizer.ggml.tokens", ARRAY, strings(*tokens)), *more])


def merges(*lines):
    return pair("tokenizer.ggml.merges", ARRAY, strings(*lines))


def scores(*values):
    return pair("tokenizer.ggml.scores", ARRAY, array(F32, len(values), struct.pack(f"<{len(values)}f", *values)))


def types(*values):
    return pair("tokenizer.ggml.token_type", ARRAY, array(5, len(values), struct.pack(f"<{len(values)}i", *values)))


GGUF = {
    "empty": b"",
    "another magic": b"GGML" + bytes(28),
    "cut in its header": b"GGUF\3\0\0\0\1",
    "version 1": gguf(version=1),
    "big-endian": b"GGUF\0\0\0\3" + bytes(16),
    "2^60 tensors": gguf(count=2**60),
    "2^60 keys": gguf(keys=2**60),
    "an array of 2^60 bytes": gguf([pair("k", ARRAY, array(U8, 2**60))]),
    "an array of 2^61 numbers of 8 bytes": gguf([pair("k", ARRAY, array(U64, 2**61))]),
    "an array of 2^60 strings": gguf([pair("k", ARRAY, array(STRING, 2**60))]),
    "an array of 2^40 arrays": gguf([pair("k", ARRAY, array(ARRAY, 2**40))]),
    "a string of 2^64 - 1 bytes": gguf([pair("k", STRING, struct.pack("<Q", 2**64 - 1))]),
    "a string of 2^40 bytes": gguf([pair("k", STRING, struct.pack("<Q", 2**40))]),
    "a key of 2^63 bytes": gguf(keys=1) + struct.pack("<Q", 2**63),
    "an unknown type of value": gguf([pair("k", 13, b"\0" * 8)]),
    "a key twice": gguf([pair("k", U8, b"\0"), pair("k", U8, b"\1")]),
    "an alignment of 0": gguf([pair("general.alignment", U32, struct.pack("<I", 0))]),
    "an alignment of 3": gguf([pair("general.alignment", U32, struct.pack("<I", 3))]),
    "a product that wraps to 0": gguf((), [tensor("t", (2**32, 2**32))], bytes(32)),
    "a product of three that wraps": gguf((), [tensor("t", (2**31, 2**31, 4))], bytes(32)),
    "bytes that wrap": gguf((), [tensor("t", (2**62,))], bytes(32)),
    "a negative axis": gguf((), [tensor("t", (-1,))], bytes(32)),
    "an empty axis": gguf((), [tensor("t", (0,))], bytes(32)),
    "five axes": gguf((), [tensor("t", (1, 1, 1, 1, 1))], bytes(32)),
    "2^32 - 1 axes": gguf(count=1) + text("t") + struct.pack("<I", 2**32 - 1),
    "an unknown type of tensor": gguf((), [tensor("t", (32,), kind=99)], bytes(32)),
    "a negative type of tensor": gguf((), [tensor("t", (32,), kind=2**32 - 1)], bytes(32)),
    "half a block": gguf((), [tensor("t", (40,), kind=8)], bytes(64)),
    "data past the end": gguf((), [tensor("t", (1024, 1024))], bytes(64)),
    "an offset near 2^64": gguf((), [tensor("t", (8,), offset=2**64 - 32)], bytes(32)),
    "an offset between blocks": gguf((), [tensor("t", (1,), offset=4)], bytes(32)),
    "tensors on the same bytes": gguf((), [tensor("t", (16,)), tensor("u", (8,), offset=32)], bytes(64)),
    "a tensor twice": gguf((), [tensor("t", (1,)), tensor("t", (1,), offset=32)], bytes(64)),
    "a name of 257 bytes": gguf((), [tensor("n" * 257, (1,))], bytes(32)),
    "a part of 65535": gguf([pair("split.no", 2, struct.pack("<H", 0)), pair("split.count", 2, struct.pack("<H", 65535))]),
    "no architecture": gguf(),
    "an architecture that is a number": gguf([pair("general.architecture", U32, struct.pack("<I", 7))]),
    "an architecture of nobody": gguf([pair("general.architecture", STRING, text("nobody\x1b[31m\nx"))]),
}

VOCABULARIES = {
    "2^60 tokens": gguf([pair("tokenizer.ggml.model", STRING, text("gpt2")), pair("tokenizer.ggml.tokens", ARRAY, array(STRING, 2**60))]),
    "no merges": vocabulary(),
    "a merge of nothing": vocabulary(("a", "b", "ab"), merges("a b", "ab")),
    "a merge of strangers": vocabulary(("a", "b", "ab"), merges("a c")),
    "a merge that makes no token": vocabulary(("a", "b", "ab"), merges("b a")),
    "a merge twice": vocabulary(("a", "b", "ab"), merges("a b", "a b")),
    "a merge with nothing": vocabulary(("a", "b", "ab"), merges("a ")),
    "a token twice": vocabulary(("a", "a"), merges("a a")),
    "a token that is no UTF-8": vocabulary((b"a", b"\xff\xfe"), merges("a a")),
    "a model of nobody": vocabulary(model="nobody"),
    "a pre-tokenizer of nobody": vocabulary(("a", "b", "ab"), merges("a b"), pre="nobody"),
    "more types than tokens": vocabulary(("a", "b", "ab"), merges("a b"), types(1, 1, 1, 1)),
    "a type outside the list": vocabulary(("a", "b", "ab"), merges("a b"), types(1, 1, 77)),
    "an end outside the vocabulary": vocabulary(("a", "b", "ab"), merges("a b"),
                                               pair("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 3))),
    "no scores": vocabulary(("a", "b"), model="llama"),
    "a score of NaN": vocabulary(("a", "b"), scores(0, float("nan")), types(1, 1), model="llama"),
    "an infinite score": vocabulary(("a", "b"), scores(0, float("inf")), types(2, 1), model="t5"),
    "Unigram without unknown": vocabulary(("a", "b"), scores(0, 0), types(1, 1), model="t5"),
    "a map of 3 bytes": vocabulary(("a", "b"), scores(0, 0), types(2, 1), pair("tokenizer.ggml.precompiled_charsmap", ARRAY, array(U8, 3, b"abc")),
                                   model="t5"),
    "a map larger than it is": vocabulary(("a", "b"), scores(0, 0), types(2, 1),
                                          pair("tokenizer.ggml.precompiled_charsmap", ARRAY, array(U8, 8, b"\xff\xff\xff\xffabcd")), model="t5"),
    "WordPiece without unknown": vocabulary(("a", "b"), model="bert"),
    "an embedded text that is cut": vocabulary(("a", "b", "ab"), pair("tokenizer.huggingface.json", STRING, text('{"model": {'))),
    "an embedded text with more tokens": vocabulary(
        ("a",), pair("tokenizer.huggingface.json", STRING, text((TOKENIZERS / "gpt2" / "tokenizer.json").read_bytes()))),
}


def safetensors(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "empty": b"",
    "cut in its length": b"\1\0\0",
    "a header of 2^60 bytes": safetensors(b"{}", length=2**60),
    "a header of 2^64 - 1 bytes": safetensors(b"{}", length=2**64 - 1),
    "a header longer than the file": safetensors(b"{}", length=3),
    "no JSON": safetensors(b"\xff" * 8),
    "zeros": bytes(4096),
    "a list": safetensors([]),
    "deep nesting": safetensors(b"[" * 200_000),
    "deep objects": safetensors(b'{"a":' * 100_000),
    "a tensor twice": safetensors(b'{"t":' + json.dumps(entry([1], 0, 4)).encode() + b',"t":' + json.dumps(entry([1], 0, 4)).encode() + b"}", bytes(4)),
    "a shape twice": safetensors(b'{"t":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "a product that wraps": safetensors({"t": entry([2**32, 2**32], 0, 0)}),
    "a product of three that wraps": safetensors({"t": entry([2**31, 2**31, 4], 0, 0)}),
    "a negative axis": safetensors({"t": entry([-1], 0, 4)}, bytes(4)),
    "a broken axis": safetensors({"t": entry([1.5], 0, 4)}, bytes(4)),
    "an axis of 2^70": safetensors({"t": entry([2**70], 0, 4)}, bytes(4)),
    "offsets backwards": safetensors({"t": entry([1], 4, 0)}, bytes(4)),
    "offsets near 2^64": safetensors({"t": entry([1], 2**64 - 4, 2**64)}, bytes(4)),
    "data past the end": safetensors({"t": entry([2], 0, 8)}, bytes(4)),
    "a hole": safetensors({"t": entry([1], 0, 4), "u": entry([1], 8, 12)}, bytes(12)),
    "tensors on the same bytes": safetensors({"t": entry([2], 0, 8), "u": entry([1], 4, 8)}, bytes(8)),
    "bytes behind the last": safetensors({"t": entry([1], 0, 4)}, bytes(8)),
    "another size than the shape": safetensors({"t": entry([2], 0, 4)}, bytes(4)),
    "an unknown dtype": safetensors({"t": entry([1], 0, 4, "F33")}, bytes(4)),
    "no offsets": safetensors({"t": {"dtype": "F32", "shape": [1]}}),
}

INDEXES = {
    "no JSON": b"\xff",
    "a list": b"[]",
    "no map": b"{}",
    "deep nesting": b'{"weight_map":' * 50_000,
    "a map that is a list": b'{"weight_map": []}',
    "a name that is a number": b'{"weight_map": {"t": 3}}',
    "a name that leads out": b'{"weight_map": {"t": "../model.safetensors"}}',
    "a name from the root": b'{"weight_map": {"t": "/etc/passwd"}}',
    "a name into a folder": b'{"weight_map": {"t": "a/b.safetensors"}}',
    "a name with a zero byte": b'{"weight_map": {"t": "a\\u0000b"}}',
    "no name": b'{"weight_map": {"t": ""}}',
    "a file that is not there": b'{"weight_map": {"t": "absent.safetensors"}}',
}

CONFIGS = {
    "empty": b"",
    "cut": b"{",
    "a list": b"[]",
    "no UTF-8": b"\xff\xfe",
    "deep nesting": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "no model_type": b"{}",
    "a model_type of nobody": b'{"model_type": "nobody"}',
    "a model_type that is a number": b'{"model_type": 3}',
}

CHANGED_CONFIGS = {
    "2^40 channels": {"hidden_size": 2**40},
    "-1 channels": {"hidden_size": -1},
    "10^9 layers": {"num_hidden_layers": 10**9},
    "2^31 tokens": {"vocab_size": 2**31},
    "1e400 as epsilon": {"rms_norm_eps": "1e400"},
    "no heads": {"num_attention_heads": 0},
    "three key heads": {"num_key_value_heads": 3},
    "no layers": {"num_hidden_layers": 0},
    "channels that are a word": {"hidden_size": "many"},
    "an odd head": {"head_dim": 95},
    "a token too few": {"vocab_size": 1023},
    "layer types too few": {"layer_types": ["full_attention"]},
    "a scaling of nobody": {"rope_parameters": {"rope_type": "imagined"}},
    "an activation of nobody": {"hidden_act": "imagined"},
    "no width": {"intermediate_size": None},
}


def tokenizer_json(**changes):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    root = {"model": model | changes.pop("model", {}), "added_tokens": []} | changes
    return json.dumps(root).encode()


def split_by(pattern):
    return tokenizer_json(pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False})


def added(**changes):
    return {"id": 3, "content": "x", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | changes


TOKENIZER_JSONS = {
    "empty": b"",
    "cut": b"{",
    "a list": b"[]",
    "no UTF-8": b"\xff\xfe",
    "no model": b"{}",
    "deep nesting": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "sequences in sequences": b'{"normalizer":' + b'{"type":"Sequence","normalizers":[' * 2000 + b"]}" * 2000 + b"}",
    "an id of -1": tokenizer_json(model={"vocab": {"a": -1}}),
    "an id of 10^10": tokenizer_json(model={"vocab": {"a": 10**10}}),
    "an id twice": tokenizer_json(model={"vocab": {"a": 0, "b": 0}, "merges": []}),
    "a token twice": b'{"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}}',
    "a merge of strangers": tokenizer_json(model={"merges": [["a", "c"]]}),
    "a merge of three": tokenizer_json(model={"merges": [["a", "b", "c"]]}),
    "a merge twice": tokenizer_json(model={"merges": [["a", "b"], ["a", "b"]]}),
    "an added token of 2^63": tokenizer_json(added_tokens=[added(id=2**63)]),
    "an added token that contradicts": tokenizer_json(added_tokens=[added(id=0)]),
    "an unknown model": tokenizer_json(model={"type": "Imagined"}),
    "an unknown normalizer": tokenizer_json(normalizer={"type": "Imagined"}),
    "an unknown pre-tokenizer": tokenizer_json(pre_tokenizer={"type": "Imagined"}),
    "an unknown post-processor": tokenizer_json(post_processor={"type": "Imagined"}),
    "an unknown decoder": tokenizer_json(decoder={"type": "Imagined"}),
    "a template of 10^5 parts": tokenizer_json(post_processor={"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                                                             "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 10**5}),
    "a template with an id outside": tokenizer_json(post_processor={
        "type": "TemplateProcessing", "pair": [], "special_tokens": {"x": {"id": "x", "ids": [9], "tokens": ["x"]}},
        "single": [{"SpecialToken": {"id": "x", "type_id": 0}}]}),
    "a map that is no base64": tokenizer_json(normalizer={"type": "Precompiled", "precompiled_charsmap": "***"}),
    "a map that is cut": tokenizer_json(normalizer={"type": "Precompiled", "precompiled_charsmap": "////fw=="}),
    "a pattern with a back reference": split_by(r"(a+)+\1$"),
    "a pattern of nested repeats": split_by("(?:" * 40 + "a" + "{1,1000})" * 40),
    "a pattern of 10^5 groups": split_by("(" * 100_000),
    "a pattern of a million letters": split_by("a{1000}" * 1000),
    "a pattern without end": split_by("[a"),
    "a Unigram without unknown": tokenizer_json(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}),
    "a score that is a text": tokenizer_json(model={"type": "Unigram", "vocab": [["a", "NaN"]], "unk_id": 0}),
    "a WordPiece without unknown": tokenizer_json(model={"type": "WordPiece", "unk_token": "[UNK]"}),
}


# Strange, and yet what they say is clear.
HARMLESS_TOKENIZER_JSONS = {
    "a merge with nothing": tokenizer_json(model={"vocab": {"a": 0, "b": 1, "ab": 2, "": 3}, "merges": [["a", ""], ["", "a"], ["a", "b"]]}),
    "an added token of 2^31 - 1": tokenizer_json(added_tokens=[added(id=2**31 - 1)]),
    "merges in a circle": tokenizer_json(model={"vocab": {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4, "bab": 5},
                                                "merges": [["a", "b"], ["b", "a"], ["ab", "a"], ["b", "ab"], ["ba", "b"], ["a", "ba"]]}),
}


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def piece(text_, score=0.0, kind=1):
    body = b"\x0a" + varint(len(text_)) + text_ + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind)
    return b"\x0a" + varint(len(body)) + body


MODELS = {
    "empty": b"",
    "a piece of 2^60 bytes": b"\x0a" + varint(2**60),
    "a number without end": b"\x0a" + b"\xff" * 11,
    "a piece that is cut": piece(b"a")[:-1],
    "a score of NaN": piece(b"a", float("nan")),
    "a type outside the list": piece(b"a", kind=77),
    "a piece of 2000 bytes": piece(b"a" * 2000),
    "a piece that is no UTF-8": piece(b"\xff"),
    "a piece twice": piece(b"a") + piece(b"a"),
    "Unigram without unknown": piece(b"a"),
    "a kind of nobody": piece(b"a") + b"\x12\x02\x18\x09",
    "a map that is cut": piece(b"<unk>", kind=2) + b"\x1a\x05\x12\x03abc",
    "ranks without a byte": b"IQ== 0\n",
    "ranks twice": b"IQ== 0\nIg== 0\n",
    "a rank of 2^31": b"IQ== 2147483648\n",
}


def demo_copy(folder, *names):
    for name in names or ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO / name, folder / name)


def no_file(kind, path):
    """Something other than a file in its place."""
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
