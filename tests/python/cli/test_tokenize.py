"""plumb tokenize and detokenize."""
import json
import shutil

from cli_support import DEMO, PROMPT


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
