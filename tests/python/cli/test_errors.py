"""Errors of use: one sentence on standard error, exit code 1."""
import pytest
from cli_support import DEMO, MODEL, PROMPT, REPOSITORY


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
    (("run", "x", "--precision", "fp16"), "fp64, fp32, hf-bf16, hf-fp16, mlx-bf16, mlx-fp16, ggml, ggml-flash, cpu-int8 and cpu-int16"),
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
