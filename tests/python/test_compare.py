"""plumb compare as a person runs it: honest pairs agree (exit 0), planted faults do not (1), questions without an answer say so (2).

Honest pairs come from the checkpoints of tests/data; the planted faults lie in ../shared/fixtures/traces: without it that test says that
it did not run, and fails where CI is set.
"""

import gzip
import json
import os
import re
import subprocess
from pathlib import Path

import checkpoints
import plumb as package
import pytest
import torch
from pages import Page, hold_self_contained
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT.parent / "shared" / "fixtures"
VERDICTS = json.loads((FIXTURES / "traces/verdicts.json").read_text()) if (FIXTURES / "traces").is_dir() else {}
BINARY = Path(os.environ.get("PLUMB_BINARY", ROOT / "build/release/plumb"))
TRACED = [name for name in checkpoints.names() if (checkpoints.folder(name) / "golden/bf16.trace").is_dir()]


def run(*arguments):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, timeout=300)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def compare(a, b, *options):
    """The exit code and the parsed answer of `plumb compare --json`."""
    code, out, said = run("compare", a, b, "--json", *options)
    assert out, said
    return code, json.loads(out)


def trace(model, ids, folder, *options):
    code, _, said = run("trace", model, "--ids", ",".join(map(str, ids)), "--out", folder, *options)
    assert code == 0, said
    return folder


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    ids = manifest_of(checkpoints.folder("qwen3") / "golden/bf16.trace")["token_ids"]
    return ids, trace(checkpoints.folder("qwen3"), ids, tmp_path_factory.mktemp("compare") / "qwen3.trace", "--steps", 2)


@pytest.mark.parametrize("name", TRACED)
def test_bfloat16_and_float32_agree(name, tmp_path):
    folder = checkpoints.folder(name)
    golden = folder / "golden/bf16.trace"
    ours = trace(folder, manifest_of(golden)["token_ids"], tmp_path / "fp32.trace", "--steps", 2)
    code, answer = compare(golden, ours)
    assert (code, answer["verdict"]) == (0, "agree"), answer["summary"]
    assert all(stage["r_a"] is None or stage["r_a"] <= 1 for stage in answer["stages"])


@pytest.mark.parametrize("name", ["qwen3", "olmoe", "qwen3_5", "deepseek_v4"])
def test_against_the_checkpoint_r_is_about_one(name):
    folder = checkpoints.folder(name)
    code, answer = compare(folder / "golden/bf16.trace", folder)
    assert (code, answer["verdict"]) == (0, "agree"), answer["summary"]
    r = [stage["r_a"] for stage in answer["stages"] if stage["r_a"] is not None]
    assert len(r) > 50 and max(r) < 2


def test_a_prefill_agrees_with_decode_steps_and_chunks(qwen3, tmp_path):
    ids, whole = qwen3
    fed = ids + manifest_of(whole)["generated"][:2]
    once = trace(checkpoints.folder("qwen3"), fed, tmp_path / "once.trace", "--chunk", 7)
    for a, b in ((whole, once), (once, whole)):
        code, answer = compare(a, b)
        assert (code, answer["verdict"]) == (0, "agree"), answer["summary"]
        assert all(stage["positions"] == len(fed) and stage["bit_match"] == 1 for stage in answer["stages"])


def test_a_gguf_of_the_same_weights_agrees(qwen3, tmp_path):
    ids, whole = qwen3
    file = tmp_path / "qwen3.gguf"
    code, _, said = run("convert", checkpoints.folder("qwen3"), file, "--type", "F32")
    assert code == 0, said
    code, answer = compare(trace(file, ids, tmp_path / "gguf.trace", "--steps", 2), whole)
    assert (code, answer["verdict"]) == (0, "agree"), answer["summary"]


@pytest.mark.skipif(not VERDICTS and not os.environ.get("CI"), reason=f"NOT RUN: {FIXTURES}/traces is not there")
def test_planted_faults_are_found_where_they_are():
    assert VERDICTS, f"{FIXTURES}/traces is not there"
    for name, wanted in VERDICTS.items():
        code, answer = compare(FIXTURES / "traces" / f"{name}.trace", FIXTURES / "checkpoints" / wanted["checkpoint"])
        expected = {"benign": "agree", "sampler": "sampler"}.get(wanted["verdict"], "differ")
        assert (code, answer["verdict"]) == (0 if expected == "agree" else 1, expected), (name, answer["summary"])
        if expected == "differ":
            assert re.fullmatch(wanted["stage"], answer["first_fault"]), (name, answer["summary"])
            assert "B does not" in answer["summary"], (name, answer["summary"])


# What llama-eval-callback printed of honest runs: named after checkpoint, type, and whether attention was fused.
RECORDED = ("llama-Q8_0-0", "olmoe-Q4_K_M-0", "qwen3-BF16-0", "qwen3-Q4_0-0")


def recorded(name, folder):
    """The recording as a trace, and the GGUF that llama.cpp ran."""
    checkpoint, kind, _ = name.split("-")
    with gzip.open(ROOT / "tests/data/llama_cpp/whole" / f"{name}.txt.gz", "rt") as lines:
        trace = package.read_llama_cpp(lines)
    trace.write(folder / "llama.trace")
    code, _, said = run("convert", checkpoints.folder(checkpoint), folder / "model.gguf", "--type", kind)
    assert code == 0, said
    return trace, folder / "llama.trace", folder / "model.gguf"


@pytest.mark.parametrize("name", RECORDED)
def test_what_llama_cpp_printed_agrees(name, tmp_path):
    """With the file that it ran, with a trace in its own arithmetic, and with one in float32, which rounds no operands."""
    values, llama, model = recorded(name, tmp_path)
    code, answer = compare(llama, model)
    assert (code, answer["verdict"]) == (0, "agree"), answer["summary"]
    assert len(answer["stages"]) > 10 and max(stage["r_a"] or 0 for stage in answer["stages"]) < 2
    for precision in ("ggml", "fp32"):
        ours = trace(model, values.token_ids, tmp_path / f"{precision}.trace", "--precision", precision)
        for a, b in ((llama, ours), (ours, llama)):
            code, answer = compare(a, b)
            assert (code, answer["verdict"]) == (0, "agree"), (precision, answer["summary"])


@pytest.mark.parametrize(("name", "key", "stage"), [("qwen3-BF16-0", "rope_theta", "attn.(q|k)_rope"), ("qwen3-Q4_0-0", "rms_norm_eps", "attn.norm")])
def test_what_llama_cpp_printed_differs_from_another_model(name, key, stage, tmp_path):
    """From a checkpoint that asks for a thousand times the base, or the epsilon."""
    _, llama, _ = recorded(name, tmp_path)
    checkpoint, kind, _ = name.split("-")
    other = tmp_path / "other"
    other.mkdir()
    for path in checkpoints.folder(checkpoint).iterdir():
        if path.is_file() and path.name != "config.json":
            (other / path.name).symlink_to(path)
    config = json.loads((checkpoints.folder(checkpoint) / "config.json").read_text())
    held = config if key in config else config["rope_parameters"]
    held[key] *= 1000
    (other / "config.json").write_text(json.dumps(config))
    code, _, said = run("convert", other, tmp_path / "other.gguf", "--type", kind)
    assert code == 0, said
    code, answer = compare(llama, tmp_path / "other.gguf")
    assert (code, answer["verdict"]) == (1, "differ") and re.fullmatch(rf"layers\.0\.{stage}", answer["first_fault"]), answer["summary"]


def test_what_has_no_answer_exits_2(qwen3, tmp_path):
    ids, whole = qwen3
    llama = trace(checkpoints.folder("llama"), ids, tmp_path / "llama.trace", "--stages", "logits")
    other = trace(checkpoints.folder("qwen3"), [i + 1 for i in ids], tmp_path / "other.trace", "--stages", "logits")
    for a, b, words in ((llama, whole, "different models"), (other, whole, "no token in common"), (tmp_path / "nothing", whole, "nothing")):
        code, out, said = run("compare", a, b)
        assert (code, out) == (2, "") and words in said, said
        code, answer = compare(a, b)
        assert (code, answer["verdict"]) == (2, "incomparable") and words in answer["summary"]
    broken = tmp_path / "broken.trace"
    broken.mkdir()
    tensors = load_file(whole / "tensors.safetensors")
    save_file({name: torch.full_like(value, torch.nan) if value.is_floating_point() else value for name, value in tensors.items()},
              broken / "tensors.safetensors")
    (broken / "manifest.json").write_text((whole / "manifest.json").read_text())
    assert compare(broken, whole)[0] == 2


def test_json_has_the_documented_keys(qwen3):
    _, whole = qwen3
    code, answer = compare(whole, whole)
    assert code == 0
    document = (ROOT / "docs/compare.md").read_text()
    for place in (answer, answer["a"], answer["positions"], answer["stages"][0]):
        for key in place:
            assert f"`{key}`" in document, key
    assert answer["format"] == "plumb-compare/1"


def test_hostile_names_neither_run_nor_reach_the_terminal(qwen3, tmp_path):
    _, whole = qwen3
    bad = "<img src=x onerror=alert(1)>\x1b[2J\"'&\u202e"
    hostile = tmp_path / "hostile.trace"
    hostile.mkdir()
    tensors = {name: value + 1 if name == "0/norm" else value for name, value in load_file(whole / "tensors.safetensors").items()}
    tensors[f"0/layers.0.{bad}"] = torch.ones(3)
    save_file(tensors, hostile / "tensors.safetensors")
    manifest = manifest_of(whole)
    manifest["engine"] = {"name": bad, "version": bad}
    manifest["model"]["config"]["rope_theta"] = bad
    manifest["stages"].append(bad)
    (hostile / "manifest.json").write_text(json.dumps(manifest))
    page = tmp_path / "page.html"
    code, out, said = run("compare", hostile, whole, "--html", page)
    assert code == 1 and out.startswith("differ: from norm on"), (out, said)
    assert "\x1b" not in out + said and "\u202e" not in out + said
    parsed = hold_self_contained(page.read_text())
    assert any("<img src=x onerror=alert(1)>" in piece for piece in parsed.text)


def test_the_page_shows_map_strip_and_table(qwen3, tmp_path):
    ids, whole = qwen3
    part = trace(checkpoints.folder("qwen3"), ids, tmp_path / "part.trace", "--layers", 1)
    page = tmp_path / "page.html"
    assert run("compare", part, whole, "--html", page, "--all")[0] == 0
    parsed = Page(page.read_text())
    assert {"table", "svg", "rect", "caption"} <= parsed.tags
    said = " ".join(parsed.text)
    for words in ("Layers and stages", "Along the positions", "Layouts", "Not observed", "layers.1.attn.q_rope", "B has it, nothing of A is like it"):
        assert words in said
    assert ("title", next(value for name, value in parsed.attributes if name == "title" and value.startswith("layers.1.attn.q:"))) in parsed.attributes
