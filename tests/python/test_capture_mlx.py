"""plumb.capture around mlx-lm models, in float32 and bfloat16: capturing changes no bit of a logit, and what it captures is
what plumb's reference executor computes, but for what docs/findings.md tells of mlx-lm, which `plumb diagnose` names from the
live capture."""

import json

import checkpoints
import mlx.core as mx
import numpy as np
import plumb as package
import pytest
from capture_models import IDS, STEPS, VARIANTS, drawn_deepseek_v3, drawn_hybrid, drawn_variant, reference_trace, stored
from mlx_forms import as_mlx_reads_it
from mlx_lm.generate import stream_generate
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from test_capture import FP32_LIMIT, UNTRAINED_LIMIT, apart_at, in_layer

mx.set_default_device(mx.cpu)
SOURCES = [
    stored(checkpoints.folder(name))
    for name in ("llama", "qwen2", "qwen3", "qwen3_moe", "olmoe", "mixtral", "qwen3_5", "gemma2", "gemma3", "gpt_oss")
]
SOURCES += [stored(VARIANTS / name) for name in ("glm4", "olmo2", "olmo3", "smollm3")]
SOURCES += [drawn_variant("mistral"), drawn_hybrid("qwen3_5_moe_text"), drawn_hybrid("qwen3_next"), drawn_deepseek_v3(0)]
EXPERTS_IN_FLOAT32_ONLY = ("moe", "mixtral", "gpt_oss", "deepseek", "qwen3_next")  # mlx's gather on a CPU
# Where mlx-lm departs from transformers (docs/findings.md), the first stages that do.
DEPARTS = {"gemma2": "attn.context", "gemma3": "embed", "gpt_oss": "attn.q_rope", "mistral-drawn": "attn.context"}


@pytest.fixture(scope="module", params=SOURCES, ids=lambda source: source.name)
def source(request):
    return request.param


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    return source.folder(tmp_path_factory)


@pytest.fixture(scope="module")
def mlx_folder(folder, tmp_path_factory):
    return as_mlx_reads_it(folder, tmp_path_factory.mktemp("mlx") / "model", exact_norms=True)


def load(folder, dtype):
    model, _ = load_model(folder)
    model.set_dtype(dtype)
    return model


def run(model, ids=IDS, steps=STEPS):
    cache, fed, logits = make_prompt_cache(model), mx.array([ids]), []
    for _ in range(steps + 1):
        logits.append(model(fed, cache=cache))
        mx.eval(logits[-1])
        fed = mx.argmax(logits[-1][:, -1:], -1)
    return [np.array(x.astype(mx.float32)) for x in logits]


def classes_of(model):
    return {type(module): type(module).__call__ for _, module in model.named_modules()}


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_no_bit_of_a_logit_changes(source, mlx_folder, dtype):
    if dtype == mx.bfloat16 and any(word in source.name for word in EXPERTS_IN_FLOAT32_ONLY):
        return
    model = load(mlx_folder, dtype)
    before, plain = classes_of(model), run(model)
    with package.capture(model) as trace:
        captured = run(model)
    assert all(np.array_equal(a, b) for a, b in zip(plain, captured, strict=True))
    assert classes_of(model) == before
    assert all(np.array_equal(a, b) for a, b in zip(plain, run(model), strict=True))
    assert trace.problems() == [] and trace.dtype == str(dtype).removeprefix("mlx.core.")
    assert all(np.array_equal(trace[step, "logits"], logits[0]) for step, logits in enumerate(plain))


def test_captured_is_what_plumb_computes(plumb, tmp_path, source, folder, mlx_folder):
    model = load(mlx_folder, mx.float32)
    with package.capture(model, checkpoint=folder) as trace:
        run(model)
    ours = reference_trace(plumb, folder, trace, tmp_path / "ours.trace")
    noted = {in_layer(entry["stage"]) for entry in trace.not_observed}
    assert {"attn.scores", "attn.probs"} <= noted
    assert [stage for stage in trace.stages if stage not in ours.stages] == []
    missing = {in_layer(stage) for stage in ours.stages if stage not in trace.stages} - noted
    assert missing <= {"moe.routed", "attn.k_plain", "attn.kv_b", "attn.kv_key", *(f"linear.in_{part}" for part in "qkv")}
    trained = source.name in checkpoints.names() and checkpoints.is_trained(source.name)
    limit = FP32_LIMIT if trained else UNTRAINED_LIMIT
    apart = {key: apart_at(key, trace, ours) for key in trace}
    wrong = [key for key in trace if not apart[key] <= limit]
    if source.name in DEPARTS:
        assert in_layer(wrong[0].split("/")[1]) == DEPARTS[source.name]
    else:
        assert not wrong, {key: apart[key] for key in wrong}


def test_generation_feeds_the_prompts_last_token_by_itself():
    """mlx_lm.generate: all ids but the last, then the last, then what was chosen. The trace tells them apart."""
    from mlx_lm.tokenizer_utils import load as load_tokenizer

    source = checkpoints.folder("llama")
    model, tokenizer = load(source_for_mlx(source), mx.float32), load_tokenizer(source)
    with package.capture(model, checkpoint=source) as trace:
        answers = [answer.token for answer in stream_generate(model, tokenizer, [3, 4, 5, 6], max_tokens=3)]
    assert trace.token_ids == [3, 4, 5, 6] and [step.count for step in trace.steps[:2]] == [3, 1]
    assert trace.generated[:2] == answers[:2]
    assert trace.model["config"] == json.loads((source / "config.json").read_text())


def source_for_mlx(folder):
    return folder  # llama's configuration is read as it is


def test_layers_are_chosen_and_errors_leave_nothing_behind():
    model = load(checkpoints.folder("llama"), mx.float32)
    before = classes_of(model)
    with package.capture(model, stages=["layers.*.attn.q_rope", "logits"], layers=[1]) as trace:
        run(model, steps=0)
    assert trace.stages == ["layers.1.attn.q_rope", "logits"] and trace.not_observed == []
    with pytest.raises(package.TraceError, match="one sequence"), package.capture(model):
        model(mx.array([[3, 4], [5, 6]]))
    assert classes_of(model) == before
