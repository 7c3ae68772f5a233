"""Every checkpoint of tests/data, in both forms of its configuration, against what transformers computed on it."""
import checkpoints
import numpy as np
import pytest
from criteria import (
    BF16_RATIO_LIMIT,
    FP32_TOLERANCE,
    argmax_agreement,
    bf16_ratio,
    decisive_steps,
    greedy_disagreements,
    prompt_distance,
    row_distances,
)

each_form = pytest.mark.parametrize("name, form", checkpoints.names_and_forms())
each_checkpoint = pytest.mark.parametrize("name", checkpoints.names())


def config_file(name, form):
    return checkpoints.folder(name) / form


@each_form
def test_fp32_logits(plumb, parity, name, form):
    """At every position within tolerance of the reference, and the same token on top."""
    rows, prompts, agreeing, positions = [], [], 0, 0
    for prompt in checkpoints.golden(name).values():
        logits = plumb.logits(checkpoints.folder(name), prompt.ids, precision="fp32", config=config_file(name, form))
        rows.append(row_distances(logits, prompt.logits_f32))
        prompts.append(prompt_distance(logits, prompt.logits_f32))
        agreeing += argmax_agreement(logits, prompt.logits_f32)
        positions += len(prompt.ids)
    rows = np.concatenate(rows)
    parity.record(name, form, fp32_worst=f"{rows.max():.1e}", fp32_median=f"{np.median(rows):.1e}")
    parity.record(name, form, argmax=f"{agreeing}/{positions}")
    assert (rows.max() if checkpoints.is_trained(name) else max(prompts)) <= FP32_TOLERANCE
    assert agreeing == positions


@each_form
def test_fp32_greedy_tokens(plumb, parity, name, form):
    """64 tokens after each prompt, decoded one at a time."""
    agreeing, tokens, diverged = 0, 0, []
    for prompt in checkpoints.golden(name).values():
        steps = len(prompt.greedy_f32)
        config = config_file(name, form)
        ids = plumb.greedy(checkpoints.folder(name), prompt.ids, steps, precision="fp32", config=config)
        same = np.equal(ids, prompt.greedy_f32)
        agreeing, tokens = agreeing + int(same.sum()), tokens + steps
        if not same.all():
            diverged.append(f"{prompt.name} at step {int(np.argmin(same))}")
    parity.record(name, form, greedy=f"{agreeing}/{tokens}")
    assert not diverged


@each_checkpoint
def test_fp32_decode_logits(plumb, name):
    """The five largest logits of each greedy step: the reference computed them with a cache, token by token."""
    for prompt in checkpoints.golden(name).values():
        ids = prompt.fed_with(prompt.greedy_f32)
        steps = prompt.step_rows(plumb.logits(checkpoints.folder(name), ids, precision="fp32"))
        top5 = np.take_along_axis(steps, prompt.top5_ids_f32, axis=1)
        assert row_distances(top5, prompt.top5_f32).max() <= FP32_TOLERANCE, prompt.name


@each_checkpoint
def test_fp64_logits(plumb, name):
    """Double precision is nearer to the truth than the reference's own float32, so it is within the same tolerance."""
    prompt = checkpoints.golden(name)["unicode"]
    logits = plumb.logits(checkpoints.folder(name), prompt.ids, precision="fp64")
    distance = row_distances if checkpoints.is_trained(name) else prompt_distance
    assert np.max(distance(logits, prompt.logits_f32)) <= FP32_TOLERANCE


@each_form
def test_hf_bf16(plumb, parity, name, form):
    """Rounded where transformers rounds: nearer to its bfloat16 than its float32 is, and of its opinion wherever it has one."""
    prompts = checkpoints.golden(name).values()
    config = config_file(name, form)
    logits, wrong, decisive = {}, {}, 0
    for prompt in prompts:
        # A position does not see what follows it, so the prompt's own rows come from the same run.
        fed = prompt.fed_with(prompt.greedy_bf16)
        rows = plumb.logits(checkpoints.folder(name), fed, precision="hf-bf16", config=config)
        logits[prompt.name] = rows[: len(prompt.ids)]
        disagreements = greedy_disagreements(prompt.step_rows(rows), prompt)
        if disagreements:
            wrong[prompt.name] = disagreements
        decisive += int(decisive_steps(prompt).sum())
    ratio = bf16_ratio(logits, prompts)
    agreed = decisive - sum(map(len, wrong.values()))
    parity.record(name, form, bf16_ratio=f"{ratio:.2f}", bf16_greedy=f"{agreed}/{decisive}")
    assert ratio <= BF16_RATIO_LIMIT
    assert decisive > 0
    assert not (wrong and checkpoints.is_trained(name))


@each_checkpoint
def test_config_forms_agree_to_the_bit(plumb, name):
    """The same model, as transformers 5 and as releases before it describe it."""
    ids = checkpoints.golden(name)["unicode"].ids
    configs = [config_file(name, form) for form in checkpoints.config_forms(name)]
    saved = [plumb.logits_file(checkpoints.folder(name), ids, config=config).read_bytes() for config in configs]
    assert all(content == saved[0] for content in saved)


def test_copies_are_the_originals(shared_fixtures):
    """The goldens in tests/data have not drifted from the ones they were copied from."""
    originals = shared_fixtures / "checkpoints"
    for name in checkpoints.names():
        for path in (*checkpoints.CONFIGS, "golden/golden.safetensors", "golden/bf16.trace/tensors.safetensors"):
            original = originals / name / path
            if original.exists():
                assert (checkpoints.folder(name) / path).read_bytes() == original.read_bytes(), f"{name}/{path}"
