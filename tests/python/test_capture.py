"""plumb.capture around transformers models: every architecture, in float32 and bfloat16. Capturing changes no bit of a logit;
what it captures has the golden traces' names, shapes and types, and is in float32 what plumb's own reference executor computes,
stage by stage."""

import json

import capture_models
import checkpoints
import numpy as np
import plumb as package
import pytest
import torch
from capture_models import by_expert, distance, load, reference_trace, run, same_keys, typical_size
from live_reference import stable_topk
from transformers import AutoModel, DynamicCache

SOURCES = capture_models.sources()
DTYPES = (torch.float32, torch.bfloat16)
# float32 sums in another order, as test_trace.py has it; untrained weights magnify it (checkpoints.is_trained).
FP32_LIMIT, UNTRAINED_LIMIT = 2e-5, 2e-4
NOT_TRANSFORMERS = {  # stages of plumb's graph that transformers computes nowhere as a value of their own
    "attn.k_plain",
    "attn.kv_b",
    "attn.kv_key",
    "attn.compressed_pooled.positions",
    "attn.index_entries_pooled.positions",
    "attn.selected.scores",
}
GOLDEN = [name for name in checkpoints.names() if (checkpoints.folder(name) / "golden" / "bf16.trace").is_dir()]


@pytest.fixture(scope="module", params=SOURCES, ids=lambda source: source.name)
def source(request):
    return request.param


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    return source.folder(tmp_path_factory)


def in_layer(stage):
    return stage.split(".", 2)[2] if stage.startswith("layers.") else stage


def traces_of(model):
    """What there is of a model, to see that nothing stays behind."""
    return [
        (name, id(module), type(module), sorted(vars(module)), len(module._forward_hooks))
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_bit_of_a_logit_changes(folder, dtype):
    model = load(folder, dtype)
    plain, before = run(model), traces_of(model)
    with package.capture(model) as trace:
        captured = run(model)
    assert all(torch.equal(a, b) for a, b in zip(plain, captured, strict=True))
    assert traces_of(model) == before
    assert all(torch.equal(a, b) for a, b in zip(plain, run(model), strict=True))
    assert trace.problems() == [] and trace.dtype == str(dtype).removeprefix("torch.")
    assert all(np.array_equal(trace[step, "logits"], logits[0].float().numpy()) for step, logits in enumerate(plain))


def test_captured_is_what_plumb_computes(plumb, tmp_path, source, folder):
    model = load(folder, torch.float32)
    with stable_topk(), package.capture(model) as trace:
        run(model)
    ours = reference_trace(plumb, folder, trace, tmp_path / "ours.trace")
    noted = {entry["stage"].removeprefix("layers.*.") for entry in trace.not_observed}
    missing = {in_layer(stage) for stage in ours.stages if stage not in trace.stages}
    assert missing - noted <= NOT_TRANSFORMERS
    assert not {in_layer(stage) for stage in trace.stages} & noted
    assert [stage for stage in trace.stages if stage not in ours.stages] == []
    assert ours.generated[: len(trace.generated)] == trace.generated
    trained = source.name in checkpoints.names() and checkpoints.is_trained(source.name)
    apart = {key: apart_at(key, trace, ours) for key in trace}
    wrong = {key: value for key, value in apart.items() if not value <= (FP32_LIMIT if trained else UNTRAINED_LIMIT)}
    assert not wrong


def apart_at(key, trace, ours):
    if key.endswith(".moe.weights"):
        experts = ours[key.replace(".weights", ".logits")].shape[-1]
        return distance(key, by_expert(trace, key, experts), by_expert(ours, key, experts))
    if key.endswith(".moe.ids"):
        return float((np.sort(trace[key]) != np.sort(ours[key])).mean())
    theirs = same_keys(key, trace[key], ours[key])
    assert trace[key].shape == theirs.shape, key
    return distance(key, trace[key], theirs, typical_size(ours, key.split("/", 1)[1]))


@pytest.mark.parametrize("name", GOLDEN)
def test_bf16_has_the_golden_names_shapes_and_types(name):
    """Values are another processor's: they are held to what bfloat16 itself costs."""
    golden = package.Trace.read(checkpoints.folder(name) / "golden" / "bf16.trace")
    model = load(checkpoints.folder(name), torch.bfloat16)
    with package.capture(model) as trace:
        run(model, golden.token_ids)
    assert [stage for stage in golden.stages if stage not in trace.stages] == []
    assert trace.stages[0] == "embed" and trace.stages[-1] == "logits"
    assert trace.steps == golden.steps and trace.token_ids == golden.token_ids
    for key in golden:
        assert trace[key].shape == golden[key].shape, key
        assert trace.stored_dtype(key) == golden.stored_dtype(key) or key.endswith(".selected"), key
    single = load(checkpoints.folder(name), torch.float32)
    with package.capture(single) as exact:
        run(single, golden.token_ids, steps=0)
    assert prefill_distance(trace, golden) < 2 * prefill_distance(exact, golden)
    assert trace.model["config"] == json.loads((checkpoints.folder(name) / "config.json").read_text())


def prefill_distance(trace, golden):
    """Relative L2 over all values of the first step."""
    keys = [key for key in golden if key.startswith("0/") and not key.endswith((".ids", ".selected"))]
    apart = sum(np.square(trace[key].astype(np.float64) - golden[key]).sum() for key in keys)
    return np.sqrt(apart / sum(np.square(golden[key].astype(np.float64)).sum() for key in keys))


def test_fused_attention_is_named_as_not_observed():
    model = load(checkpoints.folder("llama"), torch.float32, attention="sdpa")
    plain = run(model)
    with package.capture(model) as trace:
        captured = run(model)
    assert all(torch.equal(a, b) for a, b in zip(plain, captured, strict=True))
    assert {entry["stage"] for entry in trace.not_observed} == {"layers.*.attn.scores", "layers.*.attn.probs"}
    assert all("eager" in entry["why"] for entry in trace.not_observed)
    assert "layers.0.attn.context" in trace.stages and "layers.0.attn.probs" not in trace.stages


def test_without_a_cache_the_state_is_named_as_not_observed():
    model = load(checkpoints.folder("qwen3_5"), torch.float32)
    with package.capture(model) as trace, torch.no_grad():
        model(torch.tensor([[3, 4, 5]]), use_cache=False)
    assert {entry["stage"] for entry in trace.not_observed} == {f"layers.{n}.linear.state" for n in range(3)}


def test_generate_tells_the_sampler_the_stops_and_the_last_token():
    model = load(checkpoints.folder("llama"), torch.float32)
    with package.capture(model) as trace:
        answer = model.generate(torch.tensor([[3, 4, 5, 6]]), max_new_tokens=4, do_sample=False)
    assert "generate" not in vars(model)
    assert trace.token_ids == [3, 4, 5, 6] and trace.generated == answer[0, 4:].tolist()
    assert [step.count for step in trace.steps] == [4] + [1] * (len(trace.generated) - 1)
    assert trace.sampler == {"temperature": 0} | {k: v for k, v in trace.sampler.items() if k != "temperature"}
    assert trace.stop_ids == list(np.atleast_1d(model.generation_config.eos_token_id))
    assert [trace[step, "logits"].shape[0] for step in range(len(trace.steps))] == [1] * len(trace.steps)
    with package.capture(model) as trace:
        model.generate(torch.tensor([[3, 4, 5, 6]]), max_new_tokens=2, do_sample=True, temperature=0.8, top_k=7)
    assert trace.sampler["temperature"] == 0.8 and trace.sampler["top_k"] == 7


def test_stages_and_layers_are_chosen():
    model = load(checkpoints.folder("llama"), torch.float32)
    with package.capture(model, stages=["layers.*.attn.*_rope", "logits"], layers=[0, 2]) as trace:
        run(model, steps=0)
    assert trace.stages == [f"layers.{layer}.attn.{side}_rope" for layer in (0, 2) for side in "qk"] + ["logits"]
    assert trace.not_observed == []


def test_a_prompt_in_chunks(plumb, tmp_path):
    """The first token is chosen where the prompt ends, in whichever step that is: nothing was sampled here."""
    model, ids = load(checkpoints.folder("llama"), torch.float32), [5, 6, 7, 8, 9]
    cache, logits = DynamicCache(config=model.config), None
    with package.capture(model, token_ids=ids, prompt="text") as trace, torch.no_grad():
        for part in (ids[:3], ids[3:], None, None):
            fed = torch.tensor([part]) if part else logits[:, -1:].argmax(-1)
            logits = model(fed, past_key_values=cache).logits
    assert trace.token_ids == ids and trace.prompt == "text"
    assert [(step.first, step.count) for step in trace.steps] == [(0, 3), (3, 2), (5, 1), (6, 1)]
    assert trace.generated == [int(trace[step, "logits"][-1].argmax()) for step in (1, 2)]
    trace.prompt = None
    trace.write(tmp_path / "a.trace")
    report = json.loads(plumb.call("diagnose", tmp_path / "a.trace", "--model", checkpoints.folder("llama"), "--json"))
    assert report["verdict"] == "benign", report["summary"]


def test_an_error_leaves_the_model_as_it_was():
    model = load(checkpoints.folder("qwen3_5"), torch.float32)
    plain, before = run(model, steps=0), traces_of(model)
    with pytest.raises(package.TraceError, match="one sequence"), package.capture(model):
        model(torch.tensor([[3, 4], [5, 6]]))
    with pytest.raises(IndexError), package.capture(model):
        model(torch.tensor([[10**9]]))
    assert traces_of(model) == before and torch.equal(run(model, steps=0)[0], plain[0])


def test_the_decoder_alone_has_no_logits():
    model = AutoModel.from_pretrained(checkpoints.folder("llama"), dtype=torch.float32, attn_implementation="eager")
    with package.capture(model) as trace, torch.no_grad():
        model(torch.tensor([[3, 4, 5]]))
    assert "norm" in trace.stages and [entry["stage"] for entry in trace.not_observed] == ["logits"]


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="neither a transformers nor an mlx-lm model"), package.capture(torch.nn.Linear(2, 2)):
        pass
    with (
        pytest.raises(TypeError, match="a list of patterns"),
        package.capture(load(checkpoints.folder("llama"), torch.float32), stages="logits"),
    ):
        pass


def test_diagnose_finds_nothing_in_a_right_run(plumb, tmp_path):
    """The round trip: captured here, written here, read and judged by the program."""
    for name, dtype in (("llama", torch.float32), ("gemma2", torch.bfloat16)):
        model, out = load(checkpoints.folder(name), dtype), tmp_path / f"{name}.trace"
        with package.capture(model) as trace:
            run(model)
        trace.write(out)
        report = json.loads(plumb.call("diagnose", out, "--model", checkpoints.folder(name), "--json"))
        assert report["verdict"] == "benign", report["summary"]
