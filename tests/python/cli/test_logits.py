"""plumb logits: table, JSON and file."""
import re

import numpy as np
import pytest
from cli_support import DEMO, PROMPT
from safetensors.numpy import load_file


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
