"""plumb run: text, options, stops, sampling."""
import json
import re

import numpy as np
from cli_support import DEMO, PROMPT, edit_json


def test_run_streams_text_and_prints_statistics(plumb):
    answer = plumb("run", PROMPT)
    assert answer.code == 0
    assert answer.out.startswith(" Paris")
    assert answer.out.endswith("\n")
    lines = answer.err.splitlines()
    assert re.fullmatch(r"\[prompt 5 tokens, [\d.]+ tokens/s; generated \d+ tokens, [\d.]+ tokens/s; stop; "
                        r"cpu executor, \w+, auto activations \(products: (int16; attention: int16|float32.*; attention: float32)\), \d+ threads?\]",
                        lines[-1]), answer.err
    for reference in (("--executor", "reference"), ("--precision", "fp32")):
        answer = plumb("run", PROMPT, *reference)
        assert "; reference executor, fp32, " in answer.err and answer.out.startswith(" Paris")


def test_options_of_the_other_executor_are_errors(plumb):
    for options, named in ((("--executor", "cpu", "--precision", "hf-bf16"), "--precision"),
                           (("--executor", "reference", "--isa", "portable"), "--isa"),
                           (("--precision", "fp64", "--activations", "short"), "--activations"),
                           (("--executor", "gpu"), "gpu"), (("--isa", "mmx"), "mmx"), (("--activations", "long"), "long")):
        answer = plumb("run", PROMPT, *options)
        assert (answer.code, answer.out) == (1, "") and named in answer.err, options
    assert plumb("run", PROMPT, "--isa", "portable", "--activations", "exact").out.startswith(" Paris")


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
