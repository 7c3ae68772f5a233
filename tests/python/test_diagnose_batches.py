"""Traces of batches: padding on either side, masked or attended to, batch axes, heads before tokens, fewer rows than tokens."""

import contextlib
import json
import shutil

import checkpoints
import numpy as np
import plumb as package
import pytest
import torch
from capture_models import load
from diagnoses import IDS, captured, diagnose, fault, write

PAD = 0  # the checkpoints' pad_token_id
NAMES = ("llama", "qwen3", "gemma3")
LENGTH = 20


def batch(name, left, right, *faults, masked=True, from_prompt=True):
    """A prefill of one row of a batch by transformers: tokens of padding on either side, masked or not, positions counted from the prompt's
    first token or from the first of all."""
    model = load(checkpoints.folder(name), torch.float32)
    ids = [PAD] * left + IDS[:LENGTH] + [PAD] * right
    settings = {}
    if masked:
        settings["attention_mask"] = torch.tensor([[0] * left + [1] * LENGTH + [0] * right])
    if from_prompt:
        settings["position_ids"] = torch.tensor([[max(0, i - left) for i in range(len(ids))]])
    with torch.no_grad(), contextlib.ExitStack() as undo:
        for each in faults:
            plant = each.plant(model)
            if hasattr(plant, "__enter__"):
                undo.enter_context(plant)
        with package.capture(model) as trace:
            model(torch.tensor([ids]), use_cache=True, **settings)
    return trace


def judged(plumb_binary, trace, name, folder):
    return diagnose(plumb_binary, write(trace, folder / "batch.trace"), checkpoints.folder(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("left", "right", "from_prompt"), [(5, 0, True), (5, 0, False), (1, 0, True), (0, 5, True)])
def test_masked_padding_is_benign(plumb_binary, tmp_path, name, left, right, from_prompt):
    code, report = judged(plumb_binary, batch(name, left, right, from_prompt=from_prompt), name, tmp_path)
    assert (code, report["verdict"], report["findings"]) == (0, "benign", [])
    assert any("of padding" in why for why in report["not_observed"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("from_prompt", [True, False])
def test_padding_that_is_attended_to_is_named(plumb_binary, tmp_path, name, from_prompt):
    code, report = judged(plumb_binary, batch(name, 5, 0, masked=False, from_prompt=from_prompt), name, tmp_path)
    assert code == 1 and report["verdict"] == "fault" and len(report["findings"]) == 1
    finding = report["findings"][0]
    assert (finding["row"], finding["found"]) == ("44", 5) and "attend to the padding" in finding["cause"]
    assert finding["stage"] in ("layers.0.attn.scores", "layers.0.attn.probs", "layers.0.attn.context")
    assert finding["proved"] or from_prompt  # where padding has positions of its own, no run of ours has them


@pytest.mark.parametrize(("name", "planted"), [("llama", "rope interleaved"), ("qwen3", "rope theta"), ("gemma3", "layer norm")])
@pytest.mark.parametrize(("left", "right"), [(5, 0), (0, 5)])
def test_a_fault_in_a_padded_run_is_named(plumb_binary, tmp_path, name, planted, left, right):
    planted = fault("QK-norm eps" if planted == "layer norm" else planted)
    code, report = judged(plumb_binary, batch(name, left, right, planted), name, tmp_path)
    assert code == 1 and report["verdict"] == "fault"
    assert [finding["row"] for finding in report["findings"] if not finding["harmless"]] == list(planted.rows)
    assert all(finding["proved"] for finding in report["findings"])


@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id"])
def test_an_id_that_begins_or_ends_texts_is_no_padding(plumb_binary, tmp_path, key):
    """Where the configuration's id for padding is the one that begins texts, a prompt that begins with it is attended to rightly; one that ends
    with it is answered from there."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoints.folder("qwen3"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: PAD, "pad_token_id": PAD}))
    ids = [PAD, *IDS[:8]] if key == "bos_token_id" else [*IDS[:8], PAD]
    trace = write(captured("qwen3", ids=ids, steps=2), tmp_path / "honest.trace")
    code, report = diagnose(plumb_binary, trace, folder)
    assert (code, report["verdict"], report["findings"]) == (0, "benign", [])
    assert not any("padding" in why for why in report["not_observed"])


def test_padding_behind_the_prompt_that_shows_in_nothing(plumb_binary, tmp_path, honest):
    """Unmasked, and not a key of any decode step: the row from which the first token was chosen is the prompt's last."""
    pad = 7  # which ends no text, as the checkpoint's own does
    folder = tmp_path / "model"
    shutil.copytree(checkpoints.folder("qwen3"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": pad}))
    trace = captured("qwen3", ids=[*IDS[:LENGTH], pad, pad], steps=0)
    trace.generated = [int(np.argmax(honest[0, "logits"][-1]))]
    code, report = diagnose(plumb_binary, write(trace, tmp_path / "batch.trace"), folder)
    assert (code, report["verdict"], report["findings"]) == (0, "benign", [])
    assert any("2 tokens of padding after the prompt" in why for why in report["not_observed"])


def with_rows(trace, change, keys=None, ids=None, count=None):
    """A trace whose tensors went through `change` (of step, stage, values), and its keys through `keys`."""
    other = package.Trace(engine=trace.engine, dtype=trace.dtype, token_ids=trace.token_ids if ids is None else ids, generated=trace.generated)
    for index, step in enumerate(trace.steps):
        other.add_step(count=count if count is not None and index == 0 else step.count)
        for stage in trace.stages:
            if (index, stage) not in trace:
                continue
            values = trace[index, stage]
            if keys is not None and stage.endswith((".scores", ".probs")):
                values = keys(stage, values)
            other.add(stage, np.asarray(change(index, stage, values), np.float32))
    return other


def padded(values, left, right):
    noise = np.random.default_rng(1).normal(size=(left + right, *values.shape[1:])).astype(np.float32)
    return np.concatenate([noise[:left], values, noise[left:]])


@pytest.fixture(scope="module")
def honest():
    return captured("qwen3", ids=IDS[:LENGTH], steps=2)


@pytest.fixture(scope="module")
def faulty():
    return captured("qwen3", fault("QK-norm eps"), ids=IDS[:LENGTH], steps=2)


def check_both(plumb_binary, tmp_path, honest, faulty, change, **settings):
    """The honest run stays benign and the faulty one is named, whatever was done to the tensors; all stages are observed."""
    seen = []
    for trace in (honest, faulty):
        code, report = judged(plumb_binary, with_rows(trace, change, **settings), "qwen3", tmp_path)
        seen.append((code, [finding["row"] for finding in report["findings"]]))
        misfit = [why for why in report["not_observed"] if "its shape" in why]
        assert misfit == []
    assert seen == [(0, []), (1, ["21"])]


@pytest.mark.parametrize(("left", "right"), [(4, 0), (0, 4)])
@pytest.mark.parametrize("in_ids", [True, False])
def test_padding_with_decode_steps(plumb_binary, tmp_path, honest, faulty, left, right, in_ids):
    def keys(stage, values):
        fill = np.full((*values.shape[:-1], left + right), -np.inf if stage.endswith("scores") else 0, np.float32)
        at = 0 if left else LENGTH
        return np.concatenate([values[..., :at], fill, values[..., at:]], axis=-1)

    def change(step, stage, values):
        return padded(values, left, right) if step == 0 else values

    ids = [PAD] * left + IDS[:LENGTH] + [PAD] * right if in_ids else None
    count = LENGTH + left + right if in_ids else None
    check_both(plumb_binary, tmp_path, honest, faulty, change, keys=keys, ids=ids, count=count)


@pytest.mark.parametrize("layout", ["batch axis", "heads first", "last token's logits", "last token alone", "logits without an axis", "first token trimmed"])
def test_layouts(plumb_binary, tmp_path, honest, faulty, layout):
    def change(step, stage, values):
        if layout == "batch axis":
            return values[None]
        if layout == "heads first":
            return values.swapaxes(0, 1)[None] if values.ndim == 3 else values[None]
        if step > 0:
            return values
        if layout == "last token's logits":
            return values[-1:] if stage == "logits" else values
        if layout == "logits without an axis":
            return values[-1] if stage == "logits" else values
        if layout == "first token trimmed":
            return values[1:]
        return values[-1:]

    check_both(plumb_binary, tmp_path, honest, faulty, change)


def test_a_shape_that_is_no_stages_is_said(plumb_binary, tmp_path, honest):
    def change(step, stage, values):
        return values[:, :-1] if stage == "layers.0.mlp.out" else values

    _, report = judged(plumb_binary, with_rows(honest, change), "qwen3", tmp_path)
    assert any(why.startswith('"0/layers.0.mlp.out": its shape [20, ') for why in report["not_observed"])
