"""plumb convert: the tokenizer of each kind, from the folder into GGUF's keys and back."""
import json
import random
import shutil
import subprocess

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_gguf_pre_tokenizers import tool
from test_tokenizers_live import DATA, PARTS, SEED, answers, bert, charsmap, random_text
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

HIDDEN, VOCABULARY, TEXTS = 16, 1700, 150
FIXTURES = {"gpt2": "gpt2", "llama3": "gpt2", "added_tokens": "gpt2", "digits_groups": "gpt2", "llama2": "llama",
            "llama2_metaspace": "llama", "gemma": "llama"}
REFUSED = {
    "lowercase_strip": "has the normalizer NFKD, which GGUF cannot hold for this kind of tokenizer",
    "prefix_space": "has a pre-tokenizer that no name in GGUF stands for",
    "unigram_bytes": "is a Unigram model with byte fallback, which GGUF cannot hold",
    "metaspace_always": 'cuts at each space and has the token "\u2581\u2581" across one, which GGUF cannot hold',
}


def checkpoint_in(parent):
    """The smallest llama: one layer, no tokenizer yet."""
    folder = parent / "checkpoint"
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": HIDDEN,
              "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": VOCABULARY,
              "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 64, "hidden_act": "silu",
              "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,),
              **{f"{layer}self_attn.{p}_proj.weight": (HIDDEN, HIDDEN) for p in "qkvo"},
              **{f"{layer}mlp.{p}_proj.weight": (HIDDEN, HIDDEN) for p in ("gate", "up", "down")},
              **{f"{layer}{n}.weight": (HIDDEN,) for n in ("input_layernorm", "post_attention_layernorm")}}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    return checkpoint_in(tmp_path)


def convert(plumb_binary, folder):
    out = folder.parent / "model.gguf"
    done = subprocess.run([plumb_binary, "convert", folder, out, "--type", "F32"], capture_output=True, text=True)
    return out, done


def keys_of(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items() if name.startswith("tokenizer.")}


@pytest.mark.parametrize("name", FIXTURES)
def test_a_fixture_keeps_its_ids(name, plumb_binary, checkpoint):
    shutil.copy(DATA / name / "tokenizer.json", checkpoint)
    out, done = convert(plumb_binary, checkpoint)
    assert done.returncode == 0, done.stderr
    keys = keys_of(out)
    assert keys["tokenizer.ggml.model"] == FIXTURES[name]
    assert len(keys["tokenizer.ggml.tokens"]) == VOCABULARY
    assert keys["tokenizer.huggingface.json"] == (DATA / name / "tokenizer.json").read_text()
    cases = json.loads((DATA / name / "cases.json").read_text())
    got = answers(tool(plumb_binary), out, [case["text"] for case in cases])
    for case, answer in zip(cases, got, strict=True):
        if case["name"].startswith("rstrip over"):  # src/text/fixtures_test.cpp
            continue
        for key in ("ids", "ids_with_special", "ids_as_text", "decoded"):
            assert answer[key] == case[key], (case["name"], key)


@pytest.mark.parametrize("name", REFUSED)
def test_what_gguf_cannot_hold_is_one_sentence(name, plumb_binary, checkpoint):
    shutil.copy(DATA / name / "tokenizer.json", checkpoint)
    out, done = convert(plumb_binary, checkpoint)
    assert (done.returncode, done.stderr) == (1, f"plumb: {checkpoint / 'tokenizer.json'}: {REFUSED[name]}\n")
    assert not out.exists() and list(out.parent.iterdir()) == [checkpoint]


def test_a_vocabulary_larger_than_the_model_is_one_sentence(plumb_binary, checkpoint):
    shutil.copy(DATA / "gpt2" / "tokenizer.json", checkpoint)
    model = json.loads((checkpoint / "tokenizer.json").read_text())
    model["added_tokens"].append(model["added_tokens"][0] | {"content": "<far>", "id": VOCABULARY})
    (checkpoint / "tokenizer.json").write_text(json.dumps(model))
    _, done = convert(plumb_binary, checkpoint)
    assert done.stderr == (f"plumb: {checkpoint / 'tokenizer.json'}: has {VOCABULARY + 1} tokens, the model's vocabulary "
                           f"{VOCABULARY}\n")


def unigram(rng):
    """T5's shape: compiled map, spaces joined, U+2581 before each word, EOS last."""
    pieces = {}
    for _ in range(900):
        piece = "".join(rng.choices("abcdehlorstu019.,!?'-\u00e9\u00fc\u0436\u4e2d\u6587\u3042", k=rng.randrange(1, 4)))
        pieces[rng.choice(["", "\u2581"]) + piece] = -rng.uniform(2, 12)
    vocabulary = [("<unk>", 0.0), ("</s>", 0.0), ("\u2581", -3.0), *sorted(pieces.items())]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap()), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)])
    return tokenizer


@pytest.mark.parametrize(("name", "make"), [("t5", unigram), ("bert", bert), ("bert", lambda rng: bert(rng, lowercase=False))])
def test_unigram_and_word_piece_are_held_by_the_keys_alone(name, make, plumb_binary, checkpoint):
    """Without the embedded text, on words with single spaces: where SentencePiece's own normalization is that of the library."""
    rng = random.Random(f"{SEED} {name}")
    tokenizer = make(rng)
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    out, done = convert(plumb_binary, checkpoint)
    assert done.returncode == 0, done.stderr
    keys = keys_of(out)
    assert keys["tokenizer.ggml.model"] == name
    texts = [random_text(rng, PARTS) for _ in range(TEXTS)]
    got = answers(tool(plumb_binary), out, texts)
    assert [a["ids_with_special"] for a in got] == [tokenizer.encode(text).ids for text in texts]
    bare = out.with_name("bare.gguf")
    writer = gguf.GGUFWriter(bare, "llama")
    for key, field in gguf.GGUFReader(out).fields.items():
        if key.startswith("tokenizer.") and key != "tokenizer.huggingface.json":
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    simple = [" ".join("".join(rng.choices("abcdehlorstu019.,!?'-", k=rng.randrange(1, 9))) for _ in range(9)) for _ in range(TEXTS)]
    simple += ["Caf\u00e9 \u00dcber NA\u00cfVE", "\u4e2d\u6587 \u3042", "\ufb01\u2460 \u212b"]
    got = answers(tool(plumb_binary), bare, simple)
    assert [a["ids_with_special"] for a in got] == [tokenizer.encode(text).ids for text in simple]


def test_a_tokenizer_file_that_is_named_is_the_one_read(plumb_binary, tmp_path):
    """A tokenizer.json beside it is another tokenizer; a folder's own comes first only when the folder is named."""
    cases = json.loads((DATA / "llama2" / "cases.json").read_text())
    texts = [case["text"] for case in cases]
    shutil.copy(DATA / "qwen2" / "tokenizer.json", tmp_path)
    for name, source in (("spiece.model", DATA / "llama2" / "tokenizer.model"), ("ranks.tiktoken", DATA / "o200k" / "ranks.tiktoken")):
        shutil.copy(source, tmp_path / name)
    got = answers(tool(plumb_binary), tmp_path / "spiece.model", texts)
    assert [a["ids_as_text"] for a in got] == [case["sentencepiece"] for case in cases]
    ranks = answers(tool(plumb_binary), tmp_path / "ranks.tiktoken", ["Hello \u4e16\u754c"])
    assert ranks[0]["ids_as_text"] == [989, 220, 767]
    beside = answers(tool(plumb_binary), tmp_path, texts[:3])
    assert [a["ids_as_text"] for a in beside] == [a["ids_as_text"] for a in answers(tool(plumb_binary), tmp_path / "tokenizer.json", texts[:3])]


def test_sentencepiece_model_alone(plumb_binary, checkpoint):
    shutil.copy(DATA / "llama2" / "tokenizer.model", checkpoint)
    config = {"add_bos_token": True, "add_eos_token": True,
              "added_tokens_decoder": {"1500": {"content": "<extra>", "special": True}, "1501": {"content": "plain", "special": False}}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    out, done = convert(plumb_binary, checkpoint)
    assert done.returncode == 0, done.stderr
    cases = json.loads((DATA / "llama2" / "cases.json").read_text())
    texts = [case["text"] for case in cases] + ["a<extra>plain"]
    for source in (checkpoint, out):
        got = answers(tool(plumb_binary), source, texts)
        assert [a["ids_as_text"] for a in got[:-1]] == [case["sentencepiece"] for case in cases]
        assert 1500 in got[-1]["ids"] and got[-1]["ids"][-1] == 1501 and got[-1]["ids_with_special"][-1] == 2
        assert 1500 not in got[-1]["ids_as_text"]


def test_tiktoken_ranks_alone(plumb_binary, checkpoint):
    """As transformers reads them: its one pattern, the special tokens of tokenizer_config.json."""
    shutil.copy(DATA / "o200k" / "ranks.tiktoken", checkpoint / "tokenizer.model")
    decoder = {"1600": {"content": "<|end|>", "special": True}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import load_tiktoken_bpe
    from transformers.convert_slow_tokenizer import TikTokenConverter
    pattern = TikTokenConverter().pattern
    library = tiktoken.Encoding("f", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(str(checkpoint / "tokenizer.model")),
                                special_tokens={"<|end|>": 1600})
    texts = [case["text"] for case in json.loads((DATA / "o200k" / "cases.json").read_text())] + ["a<|end|>b"]
    got = answers(tool(plumb_binary), checkpoint, texts)
    assert [a["ids"] for a in got] == [library.encode(text, allowed_special="all") for text in texts]
    _, done = convert(plumb_binary, checkpoint)
    assert done.returncode == 1 and "tiktoken's ranks have no merges for GGUF" in done.stderr and done.stderr.count("\n") == 1
