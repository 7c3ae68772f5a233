"""The page of plumb diagnose --html: self-contained, with the map, the strip, the ladder and the findings; hostile names stay text."""

import json
import subprocess

import checkpoints
import pytest
import torch
from diagnoses import captured, diagnose, diagnose_text, fault, write
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
