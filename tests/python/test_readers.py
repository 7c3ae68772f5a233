"""What llama.cpp's llama-eval-callback printed (tests/data/llama_cpp) and SGLang's dumper writes, read as traces."""

import gzip
import re

import checkpoints
import numpy as np
import plumb as package
import pytest
import torch
from capture_models import load, run

PRINTED = checkpoints.REPOSITORY / "tests" / "data" / "llama_cpp"
# Four decimals, and a cache of keys and values in float16, of which values up to 8 are off by 2^-9 at most.
LARGEST_APART = 4e-3
LLAMA = checkpoints.folder("llama")
EMBD = "ggml_debug:   embd = (f32) GET_ROWS(w{2, 9, 1, 1}, i{1, 1, 1, 1}}) = {2, 1, 1, 1}\n"


def lines(name):
    with gzip.open(PRINTED / f"{name}.txt.gz", "rt") as file:
        return file.read().splitlines()


def reference(plumb, name, trace, out):
    plumb.call("trace", checkpoints.folder(name), "--ids", ",".join(map(str, trace.token_ids)), "--out", out)
    return package.Trace.read(out)


def test_a_whole_output(plumb, tmp_path):
    trace = package.read_llama_cpp(lines("olmoe"))
    assert trace.engine["name"] == "llama.cpp" and len(trace.token_ids) == trace.steps[0].count == 3 and trace.generated == []
    ours = reference(plumb, "olmoe", trace, tmp_path / "ours.trace")
    assert {stage for stage in ours.stages if stage not in trace.stages} == {f"layers.{n}.attn.scores" for n in range(4)}
    found = package.known_differences(trace, ours)
    assert [d.stage for d in found if d.stage in trace.stages] == trace.stages
    assert all(d.known > 0 and d.largest < LARGEST_APART for d in found), max(found, key=lambda d: d.largest)
    # Routing is printed whole, attention's corners are; of the last layer's end there is the last token.
    assert trace[0, "layers.0.moe.ids"].dtype == np.int32 and np.array_equal(
        trace[0, "layers.0.moe.ids"], ours[0, "layers.0.moe.ids"]
    )
    assert trace[0, "layers.0.attn.probs"].shape == (3, 4, 3) and trace[0, "layers.0.attn.q_rope"].shape == (3, 4, 32)
    assert (
        trace[0, "logits"].shape == (1, 1024) and (0, "logits") in trace.partial and (0, "layers.0.moe.ids") not in trace.partial
    )
    noted = {entry["stage"]: entry["why"] for entry in trace.not_observed}
    assert noted["layers.*.attn.q_rope"] == "printed in part, to four decimals: 72 of 384 values of 0/layers.0.attn.q_rope"


def test_a_departure_shows_where_it_begins(plumb, tmp_path):
    changed = re.sub(r"(ffn_moe_probs-1 =(?:.*\n){3}\s+\[\s+)\S+,", r"\g<1>0.9999,", "\n".join(lines("olmoe")))
    trace = package.read_llama_cpp(changed.splitlines())
    found = package.known_differences(trace, reference(plumb, "olmoe", trace, tmp_path / "ours.trace"))
    first = next(d for d in found if d.largest > LARGEST_APART)
    assert (first.stage, first.place) == ("layers.1.moe.probs", (0, 0))


def test_an_output_that_breaks_off(plumb, tmp_path):
    """llama.cpp prints through a thread and loses the end of it at times, as here."""
    trace = package.read_llama_cpp(lines("qwen3-cut"))
    assert trace.not_observed[-1]["why"].startswith("the output ends inside of ")
    found = package.known_differences(trace, reference(plumb, "qwen3", trace, tmp_path / "ours.trace"))
    assert all(d.largest < LARGEST_APART for d in found) and "layers.2.residual" in {d.stage for d in found}
    assert "logits" not in trace.stages and trace.steps[0].count > 6
    rows = np.isfinite(trace[0, "embed"]).any(axis=1)
    assert rows.tolist() == [True] * 3 + [False] * (len(rows) - 6) + [True] * 3


def test_it_is_written_and_read(tmp_path):
    trace = package.read_llama_cpp(lines("olmoe"))
    trace.write(tmp_path / "a.trace")
    again = package.Trace.read(tmp_path / "a.trace")
    assert again.partial == trace.partial and set(again) == set(trace)
    assert all(np.array_equal(again[key], trace[key], equal_nan=True) for key in trace)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "holds no tensor"),
        ("hello\n1 2 3", "holds no tensor"),
        (EMBD + "[\n[\n[ 1.0, 2.0 ],\n],\n]\nsum = 3.0", "give them as token_ids"),
        (EMBD + "[\n[\n[ 1.0, 2.0, 3.0 ],\n],\n]\nsum = 3.0", "line 1: 3 values follow, 2"),
        (EMBD + "[\n[\n[ 1.0, x ],\n],\n]\nsum = 3.0", "line 4"),
        ("ggml_debug:   embd = (f32) GET_ROWS(w{2, 9, 1, 1}, i{1, 1, 1, 1}}) = {2, 1, 1}\n", "no four sizes"),
    ],
)
def test_what_is_no_such_output_is_named(text, said):
    with pytest.raises(package.TraceError, match=said):
        package.read_llama_cpp(text.splitlines())


def test_ids_are_given_where_they_were_not_logged():
    text = EMBD + "[\n[\n[ 1.0, 2.0 ],\n],\n]\nsum = 3.0"
    trace = package.read_llama_cpp(text.splitlines(), token_ids=[8])
    assert trace.token_ids == [8] and trace["0/embed"].tolist() == [[1, 2]] and not trace.partial


def sglang_dump(folder, trace, number_of_layers, first_step=0):
    """The files of a server in its mode "all", with the values of a captured run: its norms yield the residual as well, its
    projections are fused."""
    folder.mkdir(exist_ok=True)
    index = 0

    def dump(step, name, value, **more):
        nonlocal index
        index += 1
        tags = {"step": step + first_step, "rank": 0, "dump_index": index, "name": name, "recompute_status": "disabled", **more}
        torch.save(
            {"value": value, "meta": tags | {"world_rank": 0, "world_size": 1}},
            folder / ("___".join(f"{k}={v}" for k, v in tags.items()) + ".pt"),
        )

    for step, (position, fed) in enumerate((s.first, trace.fed_ids(n)) for n, s in enumerate(trace.steps)):

        def value(stage, step=step):
            bits = torch.from_numpy(trace.bits((step, stage)).view(np.int16))
            return bits.view(torch.bfloat16).reshape(len(bits), -1)

        dump(step, "input_ids", torch.tensor(fed))
        dump(step, "positions", torch.arange(position, position + len(fed)))
        dump(step, "seq_lens", torch.tensor([position + len(fed)]))
        dump(step, "non_intrusive__model.embed_tokens.output", value("embed"))
        for n in range(number_of_layers):
            at, stage = f"non_intrusive__model.layers.{n}.", f"layers.{n}."
            more = {"layer_id": n}
            dump(step, at + "input_layernorm.output.0", value(stage + "attn.norm"), **more)
            dump(step, at + "input_layernorm.output.1", value(f"layers.{n - 1}.residual" if n else "embed"), **more)
            dump(step, at + "self_attn.qkv_proj.output", torch.cat([value(f"{stage}attn.{x}") for x in "qkv"], -1), **more)
            for i, x in enumerate("qk"):
                dump(step, f"{at}self_attn.rotary_emb.output.{i}", value(f"{stage}attn.{x}_rope"), **more)
            dump(step, at + "self_attn.attn.output", value(stage + "attn.context"), **more)
            dump(step, at + "self_attn.o_proj.output", value(stage + "attn.out"), **more)
            dump(step, at + "post_attention_layernorm.output.0", value(stage + "mlp.norm"), **more)
            dump(step, at + "post_attention_layernorm.output.1", value(stage + "attn.residual"), **more)
            dump(
                step, at + "mlp.gate_up_proj.output", torch.cat([value(stage + "mlp.gate"), value(stage + "mlp.up")], -1), **more
            )
            dump(step, at + "mlp.act_fn.output", value(stage + "mlp.act"), **more)
            dump(step, at + "mlp.output", value(stage + "mlp.out"), **more)
        dump(step, "non_intrusive__model.norm.output.0", value("norm"))
        dump(step, "non_intrusive__model.norm.output.1", value(f"layers.{number_of_layers - 1}.residual"))
        dump(step, "non_intrusive__logits_processor.output.next_token_logits", value("logits")[-1:])
        dump(step, "my_own_value", torch.ones(len(fed), 3), layer_id=1)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A captured run of the llama checkpoint, and the dump of a server that computes the same."""
    model = load(LLAMA, torch.bfloat16)
    with package.capture(model) as trace:
        run(model)
    folder = tmp_path_factory.mktemp("dumper") / "dump_1"
    sglang_dump(folder, trace, model.config.num_hidden_layers, first_step=3)
    return trace, folder


def test_a_served_request(served):
    captured, folder = served
    trace = package.read_sglang(folder, config=LLAMA)
    assert trace.token_ids == captured.token_ids and trace.generated == captured.generated and trace.steps == captured.steps
    assert trace.dtype == "bfloat16" and trace.model["config"]["model_type"] == "llama"
    assert trace.problems() == ["0/logits: the shape is [1, 1024], the step has 40 tokens"]
    assert set(captured.stages) - set(trace.stages) == {f"layers.{n}.attn.{x}" for n in range(4) for x in ("scores", "probs")}
    for key in captured:
        if key in trace and not key.endswith("logits"):
            assert trace.stored_dtype(key) == "BF16" and np.array_equal(trace[key], captured[key]), key
    assert np.array_equal(trace["0/logits"], captured["0/logits"][-1:])
    assert trace[0, "layers.1.my_own_value"].shape == (40, 3)


def test_without_a_configuration_fused_values_stay_fused(served):
    trace = package.read_sglang(served[1], steps=[3])
    assert "layers.0.attn.qkv" in trace.stages and "layers.0.attn.q" not in trace.stages and len(trace.steps) == 1


def test_dumps_that_are_no_request_are_named(served, tmp_path):
    with pytest.raises(package.TraceError, match="no file of SGLang's dumper"):
        package.read_sglang(tmp_path)
    with pytest.raises(package.TraceError, match="no file of SGLang's dumper"):
        package.read_sglang(served[1], rank=1)
    sglang_dump(tmp_path / "two", served[0], 1, first_step=0)
    sglang_dump(tmp_path / "two", served[0], 1, first_step=9)
    with pytest.raises(package.TraceError, match="begins at position 0, the steps before it end at 42"):
        package.read_sglang(tmp_path / "two")
    assert len(package.read_sglang(tmp_path / "two", steps=range(9, 12)).steps) == 3
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "step=0___rank=0___dump_index=1___name=input_ids.pt").write_bytes(b"no")
    with pytest.raises(package.TraceError, match="no tensor that torch reads safely"):
        package.read_sglang(bad)
    torch.save({"value": torch.tensor([1, 2])}, bad / "step=0___rank=0___dump_index=1___name=input_ids.pt")
    with pytest.raises(package.TraceError, match="positions were not dumped"):
        package.read_sglang(bad)
