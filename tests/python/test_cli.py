"""The command line as a person meets it: every command, option, exit code and error, with hostile input."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "models" / "demo"
MODEL = REPOSITORY / "tests" / "data" / "checkpoints" / "qwen3"
PROMPT = "The capital of France is"
COMMANDS = ("run", "logits", "tokenize", "detokenize", "show")
TIMEOUT_SECONDS = 120


class Answer:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout.decode()  # strict: everything printed is UTF-8
        self.err = done.stderr.decode()

    def json(self):
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.fixture(scope="session")
def plumb_binary():
    path = pathlib.Path(os.environ.get("PLUMB_BINARY", REPOSITORY / "build" / "release" / "plumb")).resolve()
    assert os.access(path, os.X_OK), f"{path} is not there: build it (make), or name another in PLUMB_BINARY"
    return path


@pytest.fixture
def plumb(plumb_binary):
    def run(*arguments, stdin=b"", env=None, cwd=None):
        command = [str(plumb_binary), *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        return Answer(subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT_SECONDS, cwd=cwd,
                                     env={**os.environ, **(env or {})}))

    return run


@pytest.fixture
def fails(plumb):
    """One sentence on standard error, nothing on standard output, exit code 1."""
    def check(*arguments, says, **options):
        answer = plumb(*arguments, **options)
        assert answer.code == 1, (arguments, answer.code, answer.err)
        assert answer.out == ""
        lines = answer.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("plumb: "), answer.err
        assert says in lines[0], answer.err
        assert len(lines[0]) < 600
        return lines[0]

    return check


@pytest.fixture
def copy(tmp_path):
    """A copy of the demonstration model to spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO / name, folder / name)
    return folder


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


# Help

def test_help_teaches(plumb):
    answer = plumb("--help")
    assert answer.code == 0 and answer.err == ""
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", answer.out, re.MULTILINE)
    assert 'plumb run "The capital of France is"' in answer.out
    assert "130 interrupted" in answer.out
    assert plumb().out == answer.out
    assert plumb("-h").out == answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(plumb, command):
    answer = plumb(command, "--help")
    assert answer.code == 0 and answer.err == ""
    assert f"plumb {command} " in answer.out.split("Examples:")[1]
    assert plumb("help", command).out == answer.out
    assert plumb(command, "x", "--help").out == answer.out


def test_version(plumb):
    assert re.fullmatch(r"plumb \d+\.\d+\.\d+\n", plumb("--version").out)


# run

def test_run_streams_text_and_prints_statistics(plumb):
    answer = plumb("run", PROMPT)
    assert answer.code == 0
    assert answer.out.startswith(" Paris")
    assert answer.out.endswith("\n")
    lines = answer.err.splitlines()
    assert re.fullmatch(r"\[prompt 5 tokens, [\d.]+ tokens/s; generated \d+ tokens, [\d.]+ tokens/s; stop; "
                        r"reference executor, fp32, \d+ threads?\]", lines[-1]), answer.err


def test_run_json(plumb):
    answer = plumb("run", DEMO, PROMPT, "--json")
    result = answer.json()
    assert list(result) == ["prompt_ids", "ids", "text", "finish_reason"]
    assert answer.out.count("\n") == 1
    assert result["text"] == plumb("run", PROMPT).out.removesuffix("\n")
    assert result["finish_reason"] == "stop"
    assert result["ids"][-1] in (0, 2)
    spelled = plumb("detokenize", DEMO, "--ids", ",".join(map(str, result["ids"])), "--skip-special", "--json").json()
    assert spelled == {"text": result["text"]}


def test_one_argument_is_a_model_where_it_exists(plumb):
    as_prompt = plumb("run", PROMPT, "--json").json()
    as_model = plumb("run", DEMO, "--json", stdin=PROMPT.encode()).json()
    assert as_model == as_prompt
    assert plumb("run", "--json", stdin=PROMPT.encode()).json() == as_prompt
    assert plumb("run", "--json", stdin=PROMPT.encode() + b"\n").json() == as_prompt
    assert plumb("run", "--json", stdin=PROMPT.encode() + b"\r\n").json() == as_prompt
    assert plumb("run", "--json", "--max-tokens", 0, stdin=b"a\n\n").json()["prompt_ids"] == \
        plumb("tokenize", DEMO, "a\n").json()["ids"]


def test_model_may_be_a_file(plumb):
    expected = plumb("run", DEMO, PROMPT, "--json").json()
    for name in ("config.json", "model.safetensors"):
        assert plumb("run", DEMO / name, PROMPT, "--json").json() == expected
    assert plumb("run", "model.safetensors", PROMPT, "--json", cwd=DEMO).json() == expected


def test_a_prompt_may_be_a_commands_name(plumb):
    for prompt in ("show", "run", "--", "[1,2]", "{}", "++", "-5 degrees", "a=b"):
        ids = plumb("run", "--json", "--max-tokens", 1, "--", prompt).json()["prompt_ids"]
        assert ids == plumb("tokenize", DEMO, "--", prompt).json()["ids"], prompt
    assert plumb("run", "show", "--json", "--max-tokens", 1).json()["prompt_ids"] == plumb("tokenize", DEMO, "show").json()["ids"]


def test_ids_in_place_of_text(plumb, tmp_path):
    expected = plumb("run", PROMPT, "--json").json()
    ids = expected["prompt_ids"]
    assert plumb("run", "--json", "--ids", ",".join(map(str, ids))).json() == expected
    assert plumb("run", DEMO, "--json", "--ids", " ".join(map(str, ids))).json() == expected
    for text in (",".join(map(str, ids)), "\n".join(map(str, ids)) + "\n", json.dumps(ids), json.dumps({"pieces": [], "ids": ids})):
        file = tmp_path / "ids"
        file.write_text(text)
        assert plumb("run", "--json", "--ids-file", file).json() == expected
        assert plumb("run", "--json", "--ids-file", "-", stdin=text.encode()).json() == expected


def test_max_tokens(plumb):
    whole = plumb("run", PROMPT, "--json").json()
    for count in (0, 1, 3):
        part = plumb("run", PROMPT, "--json", "--max-tokens", count).json()
        assert part["ids"] == whole["ids"][:count]
        assert part["finish_reason"] == "length"
    assert plumb("run", PROMPT, "--json", "--max-tokens", 2**31 - 1).json() == whole
    assert plumb("run", PROMPT, "--json", "--max-tokens", "010").json()["ids"] == whole["ids"][:10]
    assert plumb("run", PROMPT, "--max-tokens", 0).out == "\n"


def test_default_is_256_tokens(plumb):
    result = plumb("run", PROMPT, "--json", "--ignore-eos").json()
    assert len(result["ids"]) == 256
    assert result["finish_reason"] == "length"
    assert "<|" not in result["text"]


def test_stop_texts(plumb):
    whole = plumb("run", PROMPT, "--json").json()["text"]
    for begin in range(len(whole)):
        for length in (1, 2, 5, 9):
            stop = whole[begin:begin + length]
            cut = plumb("run", PROMPT, "--json", "--stop", "never there", "--stop", stop).json()
            assert cut["text"] == whole[:whole.index(stop)]
            assert cut["finish_reason"] == "stop_text"
    assert plumb("run", PROMPT, "--stop", ".").out == whole[:whole.index(".")] + "\n"
    assert plumb("run", "--stop", ".", PROMPT).out == plumb("run", PROMPT, "--stop", ".").out
    assert plumb("run", PROMPT, "--stop=.").out == plumb("run", PROMPT, "--stop", ".").out
    held = plumb("run", PROMPT, "--json", "--stop", whole[-3:] + " and more").json()
    assert (held["text"], held["finish_reason"]) == (whole, "stop")


def test_sampling(plumb):
    def sample(*options):
        return plumb("run", "Once", "--json", "--max-tokens", 12, *options).json()["ids"]

    greedy = sample()
    assert sample("--temperature", 0) == greedy
    assert sample("--temperature", 5, "--top-k", 1) == greedy
    assert sample("--temperature", 5, "--top-p", 0) == greedy
    assert sample("--temperature", 5, "--min-p", 1) == greedy
    hot = [sample("--temperature", 2, "--seed", seed) for seed in range(6)]
    assert hot == [sample("--temperature", 2, "--seed", seed) for seed in range(6)]
    assert len({tuple(ids) for ids in hot}) > 3
    assert sample("--temperature", 2) == hot[0]


def test_first_draws_follow_the_probabilities(plumb):
    top = plumb("logits", DEMO, "Once", "--json", "--top", 3).json()["positions"][-1]["top"]
    probabilities = np.exp([choice["logprob"] for choice in top])
    probabilities /= probabilities.sum()
    draws = [plumb("run", "Once", "--json", "--max-tokens", 1, "--temperature", 1, "--top-k", 3, "--seed", seed).json()["ids"][0]
             for seed in range(300)]
    counts = np.array([draws.count(choice["id"]) for choice in top])
    assert counts.sum() == 300
    assert (np.abs(counts - 300 * probabilities) <= 5 * np.sqrt(300 * probabilities * (1 - probabilities)) + 1).all()


def test_options_without_effect_are_said(plumb):
    answer = plumb("run", PROMPT, "--top-k", 5, "--max-tokens", 1)
    assert answer.code == 0
    assert "plumb: note: without --temperature the choice is greedy" in answer.err


def test_precision_threads_chunk_and_config(plumb, tmp_path):
    options = ("run", DEMO, PROMPT, "--json")
    fp32 = plumb(*options).json()
    for same in (("--precision", "fp32"), ("--threads", 1), ("--threads", 3), ("--chunk", 1), ("--chunk", 0), ("--chunk", 3)):
        assert plumb(*options, *same).json() == fp32
    for precision in ("fp64", "hf-bf16"):
        answer = plumb(*options, "--precision", precision)
        assert answer.json()["text"].startswith(" Paris")
        assert f"reference executor, {precision}," in answer.err
    other = tmp_path / "other.json"
    config = json.loads((DEMO / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 100.0
    other.write_text(json.dumps(config))
    logits = ("logits", DEMO, PROMPT, "--json")
    assert plumb(*logits, "--config", other).json() != plumb(*logits).json()
    assert plumb(*logits, "--config", DEMO / "config.json").json() == plumb(*logits).json()


def test_special_tokens(plumb):
    text = "<|im_end|>"
    parsed = plumb("tokenize", DEMO, text, "--parse-special").json()
    assert parsed == {"ids": [2], "pieces": [text]}
    plain = plumb("tokenize", DEMO, text).json()
    assert len(plain["ids"]) > 1 and 2 not in plain["ids"]
    assert plumb("run", text, "--parse-special", "--json", "--max-tokens", 1).json()["prompt_ids"] == [2]
    assert plumb("detokenize", DEMO, "--ids", "2").out == text
    assert plumb("detokenize", DEMO, "--ids", "2", "--skip-special").out == ""


def add_bos(folder):
    """Makes the tokenizer begin each text with its end-of-text token, as Llama's does with its own."""
    edit_json(folder / "tokenizer.json", post_processor={
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}})


def test_no_bos(plumb, copy):
    bare = plumb("tokenize", copy, PROMPT).json()["ids"]
    add_bos(copy)
    assert plumb("tokenize", copy, PROMPT).json()["ids"] == [0, *bare]
    assert plumb("tokenize", copy, PROMPT, "--no-bos").json()["ids"] == bare
    assert plumb("run", copy, PROMPT, "--json", "--max-tokens", 1).json()["prompt_ids"] == [0, *bare]
    assert plumb("run", copy, PROMPT, "--json", "--max-tokens", 1, "--no-bos").json()["prompt_ids"] == bare
    assert plumb("run", copy, "", "--json", "--max-tokens", 1).json()["prompt_ids"] == [0]


def test_stop_ids_are_united(plumb, copy):
    def finish():
        result = plumb("run", copy, PROMPT, "--json", "--max-tokens", 6).json()
        return len(result["ids"]), result["finish_reason"]

    edit_json(copy / "config.json", eos_token_id=...)
    edit_json(copy / "generation_config.json", eos_token_id=...)
    edit_json(copy / "tokenizer_config.json", eos_token=...)
    assert finish() == (6, "length")
    ids = plumb("run", copy, PROMPT, "--json", "--max-tokens", 6).json()["ids"]
    edit_json(copy / "generation_config.json", eos_token_id=[1000, ids[4]])
    assert finish() == (5, "stop")
    edit_json(copy / "config.json", eos_token_id=ids[3])
    assert finish() == (4, "stop")
    piece = plumb("tokenize", copy, " Paris").json()["pieces"][0]
    edit_json(copy / "tokenizer_config.json", eos_token=piece)
    assert finish() == (1, "stop")
    stopped = plumb("run", copy, PROMPT, "--json").json()
    assert stopped["ids"] == ids[:1] and stopped["text"] == ""
    assert plumb("show", copy, "--json").json()["stop_ids"] == sorted({1000, ids[4], ids[3], ids[0]})


# logits

def test_logits_table_json_and_file_agree(plumb, tmp_path):
    saved = tmp_path / "logits.safetensors"
    answer = plumb("logits", DEMO, PROMPT, "--save", saved)
    assert (answer.code, answer.out) == (0, "")
    content = load_file(saved)
    assert content["ids"].dtype == np.int32 and content["logits"].dtype == np.float32
    assert content["logits"].shape == (5, 1024)
    result = plumb("logits", DEMO, PROMPT, "--json", "--top", 7).json()
    assert result["ids"] == content["ids"].tolist()
    logprobs = content["logits"].astype(np.float64)
    logprobs -= np.log(np.exp(logprobs - logprobs.max(1, keepdims=True)).sum(1, keepdims=True)) + logprobs.max(1, keepdims=True)
    pieces = plumb("tokenize", DEMO, PROMPT).json()["pieces"]
    for row, position in enumerate(result["positions"]):
        assert (position["position"], position["id"], position["piece"]) == (row, result["ids"][row], pieces[row])
        order = np.argsort(-content["logits"][row], kind="stable")[:7]
        assert [choice["id"] for choice in position["top"]] == order.tolist()
        for choice in position["top"]:
            assert choice["logit"] == content["logits"][row][choice["id"]]
            assert choice["logprob"] == pytest.approx(logprobs[row][choice["id"]], abs=1e-9)
    table = plumb("logits", DEMO, PROMPT).out
    assert table.count("position ") == 5
    best = result["positions"][-1]["top"][0]
    assert re.search(rf"^ +{best['id']} +{best['logit']:.6f} +{best['logprob']:.6f}  \"Ġ", table, re.MULTILINE)
    assert len(table.splitlines()) == 5 * (2 + 5)
    both = plumb("logits", DEMO, PROMPT, "--save", saved, "--top", 2)
    assert len(both.out.splitlines()) == 5 * (2 + 2)
    assert len(plumb("logits", DEMO, "a", "--json", "--top", 5000).json()["positions"][0]["top"]) == 1024
    assert plumb("logits", DEMO, "--json", "--top", 7, stdin=PROMPT.encode()).json() == result
    assert list(tmp_path.iterdir()) == [saved]


def test_logits_without_a_tokenizer(plumb, fails, copy):
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    assert plumb("logits", copy, "--ids", "1,2", "--json").json()["positions"][0]["piece"] is None
    result = plumb("run", copy, "--ids", "1,2", "--json", "--max-tokens", 2).json()
    assert len(result["ids"]) == 2 and result["text"] == ""
    assert plumb("show", copy).code == 0
    fails("logits", copy, "text", says="no tokenizer.json")
    fails("tokenize", copy, "text", says="no tokenizer.json")
    fails("run", copy, "--ids", "1", "--stop", "x", says="tokenizer")


def test_save_replaces_only_a_finished_file(plumb, fails, tmp_path):
    saved = tmp_path / "logits.safetensors"
    saved.write_text("precious")
    fails("logits", DEMO, "--ids", "1,5000", "--save", saved, says="5000")
    assert saved.read_text() == "precious"
    plumb("logits", DEMO, "--ids", "1", "--save", saved)
    assert load_file(saved)["ids"].tolist() == [1]
    fails("logits", DEMO, "--ids", "1", "--save", tmp_path, says="not a regular file")
    fails("logits", DEMO, "--ids", "1", "--save", "/dev/null", says="not a regular file")
    fails("logits", DEMO, "--ids", "1", "--save", tmp_path / "no" / "such", says="No such file")


# tokenize, detokenize

def test_tokenize_and_back(plumb, tmp_path):
    for text in ("Hello, wörld! 🙂\n", "", " ", "東京\t\r\n", "\x00\x7f"):
        file = tmp_path / "text"
        file.write_bytes(text.encode())
        result = plumb("tokenize", DEMO, "--file", file).json()
        assert list(result) == ["ids", "pieces"]
        assert len(result["ids"]) == len(result["pieces"])
        assert plumb("tokenize", DEMO, "--file", file, "--json").json() == result
        assert plumb("tokenize", DEMO, "--file", "-", stdin=text.encode()).json() == result
        assert plumb("detokenize", DEMO, "--ids-file", "-", stdin=json.dumps(result).encode()).out == text
        if "\x00" not in text:
            assert plumb("tokenize", DEMO, text).json() == result


def test_pieces_are_vocabulary_entries(plumb):
    vocabulary = json.loads((DEMO / "tokenizer.json").read_text())["model"]["vocab"]
    result = plumb("tokenize", DEMO, "Hello wörld").json()
    assert [vocabulary[piece] for piece in result["pieces"]] == result["ids"]


def test_half_a_character_is_replaced(plumb):
    ids = plumb("tokenize", DEMO, "🙂").json()["ids"]
    assert len(ids) > 1
    assert "\ufffd" in plumb("detokenize", DEMO, "--ids", str(ids[0]), "--json").json()["text"]


def test_a_tokenizer_needs_no_model(plumb, tmp_path):
    shutil.copyfile(DEMO / "tokenizer.json", tmp_path / "tokenizer.json")
    expected = plumb("tokenize", DEMO, PROMPT).json()
    assert plumb("tokenize", tmp_path, PROMPT).json() == expected
    assert plumb("tokenize", tmp_path / "tokenizer.json", PROMPT).json() == expected


# show

def test_show_names_every_convention(plumb):
    answer = plumb("show", DEMO)
    assert answer.code == 0 and answer.err == ""
    assert plumb("show").out.splitlines()[1:] == answer.out.splitlines()[1:]
    for words in ("qwen3", "rms_norm_eps", "layers 0-3, alike", "eps 1e-06", "eps_place inside_root", "pairing half_split",
                  "frequencies.theta 1000000", "groups repeat", "window none", "model.layers.{0-3}.mlp.up_proj.weight", "BF16",
                  "with a context of 1024 tokens"):
        assert words in answer.out, words
    assert "layers 0-3, alike" not in plumb("show", DEMO, "--all").out
    assert "model.layers.3.mlp.up_proj.weight" in plumb("show", DEMO, "--all").out


def test_show_json(plumb):
    result = plumb("show", DEMO, "--json", "--context", 100).json()
    assert result["config"] == json.loads((DEMO / "config.json").read_text())
    assert result["stop_ids"] == [0, 2]
    stages = {stage["name"]: stage for stage in result["stages"]}
    assert stages["layers.2.attn.q_rope"]["conventions"]["pairing"] == "half_split"
    assert stages["layers.2.attn.q_rope"]["outputs"][0]["shape"] == [4, 96]
    tensors = {tensor["name"]: tensor for tensor in result["tensors"]}
    stored = {}
    with open(DEMO / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        stored = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert set(tensors) == set(stored)
    for name, entry in stored.items():
        begin, end = entry["data_offsets"]
        assert (tensors[name]["shape"], tensors[name]["format"], tensors[name]["bytes"]) == (entry["shape"], entry["dtype"], end - begin)
    memory = result["memory"]
    assert memory["weight_bytes"] == sum(tensor["bytes"] for tensor in tensors.values())
    assert memory["state_bytes_per_token"] == 4 * 2 * (96 + 96) * 8
    assert memory["state_bytes"] == 100 * memory["state_bytes_per_token"]


# Errors

@pytest.mark.parametrize("arguments, says", [
    (("nonsense",), "'nonsense' is not a command"),
    (("--nonsense",), "is not a command"),
    (("run", "--nonsense"), "'--nonsense' is not expected here"),
    (("run", "--a prompt"), "goes after --"),
    (("run", "-x"), "'-x' is not expected here"),
    (("run", "a", "b", "c"), "'c' is not expected here"),
    (("run", "x", "--max-tokens", "-1"), "--max-tokens: must be a whole number from 0 to 2147483647, not '-1'"),
    (("run", "x", "--max-tokens", "1e3"), "not '1e3'"),
    (("run", "x", "--max-tokens", ""), "not ''"),
    (("run", "x", "--max-tokens", "99999999999999999999"), "--max-tokens"),
    (("run", "x", "--max-tokens", "1 "), "--max-tokens"),
    (("run", "x", "--max-tokens"), "--max-tokens needs a value"),
    (("run", "x", "--seed", "1", "--seed", "2"), "--seed is given more than once"),
    (("run", "x", "--seed", "-1"), "--seed"),
    (("run", "x", "--threads", "-1"), "--threads"),
    (("run", "x", "--threads", "1000000"), "--threads"),
    (("run", "x", "--chunk", "-1"), "--chunk"),
    (("run", "x", "--temperature", "nan"), "temperature is nan"),
    (("run", "x", "--temperature", "inf"), "temperature is inf"),
    (("run", "x", "--temperature", "-1"), "temperature is -1"),
    (("run", "x", "--temperature", "hot"), "--temperature: must be a number, not 'hot'"),
    (("run", "x", "--temperature", "1e999"), "--temperature"),
    (("run", "x", "--top-k", "-1"), "--top-k"),
    (("run", "x", "--top-p", "1.1"), "top-p is 1.1"),
    (("run", "x", "--top-p", "nan"), "top-p is nan"),
    (("run", "x", "--min-p", "-0.1"), "min-p is -0.1"),
    (("run", "x", "--stop", ""), "stop text is empty"),
    (("run", "x", "--stop="), "--stop= has no value"),
    (("run", "x", "--precision", "fp16"), "fp64, fp32 and hf-bf16"),
    (("run", ""), "the prompt is empty"),
    (("run",), "the prompt is empty"),
    (("run", "x", "--ids", "1"), "x: there is no such file or folder"),
    (("run", DEMO, "x", "--ids", "1"), "cannot be given together"),
    (("run", "--ids", "1", "--ids-file", "f"), "cannot be given together"),
    (("run", "--ids", ""), "--ids: holds no ids"),
    (("run", "--ids", "[]"), "the prompt is empty"),
    (("run", "--ids", "1,x"), "'x' is not an id"),
    (("run", "--ids", "1,-2"), "'-2' is not an id"),
    (("run", "--ids", "1,2.5"), "'2.5' is not an id"),
    (("run", "--ids", "99999999999"), "is not an id"),
    (("run", "--ids", "[1,[2]]"), "is not an id"),
    (("run", "--ids", "[1,2"), "JSON list"),
    (("run", "--ids", "[-1]"), "'-1' is not an id"),
    (("run", "--ids", "{}"), "JSON list"),
    (("run", "--ids", "1,1024"), "1024"),
    (("run", "--ids-file", "/nowhere/ids"), "/nowhere/ids: cannot open: No such file or directory"),
    (("run", "--ids-file", REPOSITORY), "Is a directory"),
    (("run", "--ids-file", "/dev/null"), "holds no ids"),
    (("run", "/nowhere/model", "x"), "/nowhere/model: there is no such file or folder"),
    (("run", REPOSITORY / "tests", "x"), "config.json"),
    (("run", "x", "--config", "/nowhere/config.json"), "/nowhere/config.json"),
    (("logits",), "MODEL is required"),
    (("logits", DEMO, ""), "the prompt is empty"),
    (("logits", DEMO, "x", "--top", "-1"), "--top"),
    (("tokenize",), "MODEL is required"),
    (("tokenize", DEMO, "x", "--file", "y"), "cannot be given together"),
    (("tokenize", DEMO, "--file", "/nowhere/text"), "No such file"),
    (("tokenize", REPOSITORY / "tests", "x"), "tokenizer.json"),
    (("detokenize", DEMO), "--ids or --ids-file is required"),
    (("detokenize", DEMO, "--ids", "1024"), "1024"),
    (("detokenize", DEMO, "--ids", "2147483647"), "2147483647"),
    (("show", "/nowhere/model"), "/nowhere/model: there is no such file or folder"),
    (("show", DEMO, "--context", "-1"), "--context"),
])
def test_errors_are_one_sentence(fails, arguments, says):
    fails(*arguments, says=says)


def test_text_that_is_no_utf8(fails, tmp_path):
    file = tmp_path / "text"
    file.write_bytes(b"abc\xff\xfe")
    fails("tokenize", DEMO, "--file", file, says="UTF-8")
    fails("tokenize", DEMO, b"abc\xff", says="UTF-8")
    fails("run", b"abc\xff", says="UTF-8")
    fails("run", says="UTF-8", stdin=b"\xed\xa0\x80")


def test_error_lines_hold_no_control_characters(plumb):
    answer = plumb("run", "/no\x1b[31m\nwhere", "x")
    assert answer.code == 1
    assert "\x1b" not in answer.err and answer.err.count("\n") == 1


def test_the_built_in_model_can_be_named(plumb, fails, copy):
    assert plumb("run", PROMPT, env={"PLUMB_DEMO_MODEL": str(copy)}).out == plumb("run", PROMPT).out
    fails("run", PROMPT, says="/nowhere", env={"PLUMB_DEMO_MODEL": "/nowhere"})


# Hostile files

def header_length(path):
    return int.from_bytes(path.read_bytes()[:8], "little")


def spoil_safetensors(kind, path):
    data = bytearray(path.read_bytes())
    length = header_length(path)
    if kind == "empty":
        data = bytearray()
    elif kind == "short":
        data = data[: len(data) // 2]
    elif kind == "header beyond the file":
        data[:8] = (2**60).to_bytes(8, "little")
    elif kind == "no JSON":
        data[8:16] = b"\xff" * 8
    elif kind == "zeros":
        data = bytearray(len(data))
    elif kind == "deep":
        text = b"[" * 200000
        data = bytearray(len(text).to_bytes(8, "little") + text)
    elif kind == "NaN weights":
        begin = 8 + length
        data[begin:] = b"\xff\x7f" * ((len(data) - begin) // 2)
    path.write_bytes(data)


@pytest.mark.parametrize("kind, says", [
    ("empty", "model.safetensors"), ("short", "model.safetensors"), ("header beyond the file", "model.safetensors"),
    ("no JSON", "model.safetensors"), ("zeros", "model.safetensors"), ("deep", "model.safetensors"), ("NaN weights", "finite")])
def test_spoiled_weights(fails, copy, kind, says):
    spoil_safetensors(kind, copy / "model.safetensors")
    fails("run", copy, PROMPT, says=says)
    fails("logits", copy, PROMPT, "--json", says=says)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model_type": 3}', b'{"model_type": "\\ud800"}',
                                     b"[" * 100000, b'{"a":' * 100000, b'{"model_type": "nobody"}'])
def test_spoiled_config(fails, copy, content):
    (copy / "config.json").write_bytes(content)
    for command in ("run", "show"):
        fails(command, copy, *([PROMPT] if command == "run" else []), says="config.json")


@pytest.mark.parametrize("changes", [
    {"hidden_size": -1}, {"hidden_size": 2**40}, {"hidden_size": "many"}, {"num_hidden_layers": 10**9}, {"num_hidden_layers": 0},
    {"num_attention_heads": 0}, {"num_key_value_heads": 3}, {"head_dim": 95}, {"vocab_size": 1023}, {"vocab_size": 2**31},
    {"rms_norm_eps": "small"}, {"layer_types": ["full_attention"]}, {"rope_parameters": {"rope_type": "imagined"}},
    {"hidden_act": "imagined"}, {"intermediate_size": None}])
def test_impossible_config(fails, copy, changes):
    edit_json(copy / "config.json", **changes)
    fails("run", copy, PROMPT, says=f"{copy}")


@pytest.mark.parametrize("experts", [0, -1, 9, 60000, 2**31 - 1, 2**62])
def test_impossible_number_of_experts(fails, tmp_path, experts):
    folder = shutil.copytree(MODEL.parent / "olmoe", tmp_path / "olmoe", ignore=shutil.ignore_patterns("golden"))
    edit_json(folder / "config.json", num_experts=experts, num_hidden_layers=2048)
    fails("run", folder, "x", says="")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"model": {"type": "BPE"}}', b"[" * 100000,
                                     b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
                                     b'{"model": {"type": "BPE", "vocab": {"a": 9999999999}, "merges": []}}'])
def test_spoiled_tokenizer(fails, copy, content):
    (copy / "tokenizer.json").write_bytes(content)
    fails("run", copy, PROMPT, says="tokenizer.json")
    fails("tokenize", copy, PROMPT, says="tokenizer.json")


def test_missing_pieces_of_a_model(fails, copy):
    (copy / "model.safetensors").unlink()
    fails("run", copy, PROMPT, says="model.safetensors")
    (copy / "config.json").unlink()
    fails("run", copy, PROMPT, says="config.json")
    fails("show", copy, says="config.json")


def test_a_missing_misshapen_or_unclaimed_tensor_is_named(fails, copy):
    tensors = {name: value.copy() for name, value in load_as_float(copy / "model.safetensors").items()}
    name = "model.layers.1.self_attn.k_norm.weight"
    for change, says in ((lambda t: t.pop(name), name), (lambda t: t.update({name: np.ones(95, np.float32)}), name),
                         (lambda t: t.update({"model.layers.9.extra.weight": np.ones(3, np.float32)}), "model.layers.9.extra.weight")):
        changed = dict(tensors)
        change(changed)
        save_file(changed, copy / "model.safetensors")
        fails("run", copy, PROMPT, says=says)


def load_as_float(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}


# Pipes, signals, terminals

def test_a_closed_pipe_ends_quietly(plumb_binary):
    for arguments in (["run", PROMPT, "--ignore-eos", "--max-tokens", "100000"], ["show", DEMO, "--json"],
                      ["logits", DEMO, "--ids", ",".join(["5"] * 400), "--top", "100"]):
        process = subprocess.Popen([plumb_binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_full_disk_is_an_error(plumb_binary):
    with open("/dev/full", "wb") as full:
        for arguments in (["run", PROMPT], ["show"], ["--help"], ["run", "--help"], ["run", PROMPT, "--json"]):
            done = subprocess.run([plumb_binary, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_SECONDS)
            assert done.returncode == 1
            assert done.stderr == b"plumb: cannot write to standard output: No space left on device\n"


def endless(plumb_binary, *more, **options):
    return subprocess.Popen([plumb_binary, "run", PROMPT, "--ignore-eos", "--max-tokens", "1000000", *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_interrupt_ends_generation_cleanly(plumb_binary):
    process = endless(plumb_binary)
    first = process.stdout.read(20)
    assert first.startswith(b" Paris")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    (first + out).decode()
    assert out.endswith(b"\n")
    assert re.search(r"; cancelled; reference executor", err.decode().splitlines()[-1])


def test_interrupt_with_json_still_prints_it(plumb_binary):
    process = endless(plumb_binary, "--json")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    result = json.loads(out)
    assert result["finish_reason"] == "cancelled" and result["ids"]


def test_interrupt_during_a_long_prompt(plumb_binary):
    for command in ("run", "logits"):
        process = subprocess.Popen([plumb_binary, command, MODEL, "--ids-file", "-"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"5," * 20000)
        process.stdin.close()
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 130
        err = process.stderr.read().decode()
        assert "tokens/s" not in err
        assert ("prompt 20000 tokens; generated 0 tokens; cancelled" in err) == (command == "run")
        process.stdout.close()
        process.stderr.close()


def test_interrupt_while_reading_the_prompt(plumb_binary):
    process = subprocess.Popen([plumb_binary, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_SECONDS) == 130
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_text_streams_while_it_is_generated(plumb_binary):
    process = endless(plumb_binary)
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready and process.poll() is None
    assert os.read(process.stdout.fileno(), 6)
    process.kill()
    process.communicate()


def test_a_terminal_shows_progress_of_a_long_prompt(plumb_binary, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text(",".join(["5"] * 600))
    master, slave = pty.openpty()
    with subprocess.Popen([plumb_binary, "run", DEMO, "--ids-file", ids, "--max-tokens", "1"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            seen += data
        process.stdout.read()
    os.close(master)
    assert b"reading the prompt: 64 of 600 tokens" in seen
    assert seen.index(b"\r\x1b[K[prompt 600 tokens") > seen.index(b"reading the prompt: 576")
