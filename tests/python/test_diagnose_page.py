"""The page of plumb diagnose --html: self-contained, with the map, the strip, the ladder and the findings; hostile names stay text."""

import json
import subprocess

import checkpoints
import pytest
import torch
from diagnoses import IDS, captured, diagnose, diagnose_text, fault, write
from pages import hold_self_contained
from safetensors.torch import load_file, save_file

FOLDER = checkpoints.folder("qwen3")
RUNGS = ["prompt", "token ids", "positions", "weights", "embedding", "stages", "state across steps", "logits", "sampler", "stop"]


@pytest.fixture(scope="module")
def eps(tmp_path_factory):
    return write(captured("qwen3", fault("QK-norm eps"), steps=2), tmp_path_factory.mktemp("page") / "eps.trace")


def page_of(plumb_binary, trace, folder, *options):
    page = folder / "page.html"
    code, report = diagnose(plumb_binary, trace, FOLDER, "--html", page, *options)
    assert not list(folder.glob(".*unfinished*"))
    return code, report, hold_self_contained(page.read_text())


def test_the_page_shows_map_strip_ladder_and_findings(plumb_binary, eps, tmp_path):
    code, report, page = page_of(plumb_binary, eps, tmp_path)
    assert code == 1 and {"table", "svg", "rect", "caption"} <= page.tags
    said = " ".join(page.text)
    for words in ("Findings", "Layers and stages", "Along the positions", "Ladder", "Not observed", "the norm's epsilon is wrong", *RUNGS):
        assert words in said, words
    for rung in report["rungs"]:
        assert rung["why"] in said
    titles = [value for name, value in page.attributes if name == "title"]
    wrong = next(value for value in titles if value.startswith("layers.0.attn.q_norm: "))
    right = next(value for value in titles if value.startswith("layers.0.attn.q: "))
    assert float(wrong.split(": ")[1].split()[0]) > 10 > 1 > float(right.split(": ")[1].split()[0])
    assert any("layers.0.attn.q_norm, position 33: " in words for words in page.text)  # a decode step


def test_causes_that_are_not_told_apart_come_with_the_prompt_that_would(plumb_binary, tmp_path):
    name = "gpt_oss"
    trace = write(captured(name, fault("YaRN's factor on cos and sin"), ids=IDS[:1], steps=0), tmp_path / "short.trace")
    page = tmp_path / "page.html"
    code, report = diagnose(plumb_binary, trace, checkpoints.folder(name), "--html", page)
    assert code == 1
    finding = report["findings"][0]
    assert {finding["row"], *finding["also"]} >= {"33", "35"}
    other = next(each for each in finding["alternatives"] if each["row"] == "35")
    assert other["row"] in finding["also"] and other["prompt"]["tokens"] == len(other["prompt"]["ids"]) == 2
    assert "a prompt of 2 tokens tells them apart" in other["words"]
    said = f"the data cannot tell it from row {other['row']}: {other['cause']}"
    assert any(said in words and other["words"] in words for words in hold_self_contained(page.read_text()).text)
    assert said in diagnose_text(plumb_binary, trace, checkpoints.folder(name))
    told = captured(name, fault("YaRN's factor on cos and sin"), ids=other["prompt"]["ids"], steps=0)
    _, report = diagnose(plumb_binary, write(told, tmp_path / "told.trace"), checkpoints.folder(name))
    assert report["findings"][0]["row"] == "33" and report["findings"][0]["alternatives"] == []


def test_two_sides_have_two_maps(plumb_binary, eps, tmp_path):
    right = write(captured("qwen3"), tmp_path / "right.trace")
    _, report, page = page_of(plumb_binary, right, tmp_path, "--reference", eps)
    said = " ".join(page.text)
    for words in ("Ladder of the suspect", "Ladder of the reference", "Layers and stages of the reference", "the reference: layers.0.attn.q_norm"):
        assert words in said, words
    assert report["blame"] == "reference"


def test_hostile_names_stay_text(plumb_binary, eps, tmp_path):
    bad = "<img src=x onerror=alert(1)>\x1b[2J\"'&\u202e"
    hostile = tmp_path / "hostile.trace"
    hostile.mkdir()
    tensors = load_file(eps / "tensors.safetensors")
    tensors[f"0/layers.0.{bad}"] = torch.ones(3)
    save_file(tensors, hostile / "tensors.safetensors")
    manifest = json.loads((eps / "manifest.json").read_text())
    manifest["engine"] = {"name": bad, "version": bad}
    manifest["prompt"], manifest["rendered"] = bad, bad
    (hostile / "manifest.json").write_text(json.dumps(manifest))
    _, report, page = page_of(plumb_binary, hostile, tmp_path)
    assert any("<img src=x onerror=alert(1)>" in piece for piece in page.text)
    text = diagnose_text(plumb_binary, hostile, FOLDER)
    assert "\x1b" not in text and "\u202e" not in text


def test_a_page_that_cannot_be_written_is_said(plumb_binary, eps, tmp_path):
    command = [plumb_binary, "diagnose", eps, "--model", FOLDER, "--html", tmp_path / "nowhere" / "page.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "page.html: cannot be written" in done.stderr
