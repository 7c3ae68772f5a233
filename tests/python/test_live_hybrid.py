"""transformers, mlx-lm and plumb side by side on hybrid decoders drawn for this run. PLUMB_LIVE_SEED repeats a run."""
import random
import shutil
from dataclasses import dataclass

import live_seed
import numpy as np
import pytest
import torch
from criteria import FP32_TOLERANCE, clear_choices, fp32_limit, prompt_distance, row_distances
from live_hybrid import HybridModel, as_converted_by_mlx, as_published_before, as_wrapped, build, draw_models
from live_reference import Reference, stored_config
from transformers import AutoConfig

MODELS = draw_models(live_seed.SEED)
# transformers prefills in chunks of 64 tokens: one, around the first and second boundary, past several.
LENGTHS = (1, 2, 63, 64, 65, 129, 300)
DECODE_STEPS = 20
CLEAR_CHOICE = 1e-5  # closer choices than the noise of float32 are not compared
ROUTING_NOISE = 3e-5


@dataclass(frozen=True)
class Live:
    model: HybridModel
    folder: object
    reference: Reference
    rng: random.Random

    def prompt(self, length):
        for _ in range(50):
            ids = [self.rng.randrange(self.model.settings["vocab_size"]) for _ in range(length)]
            if self.reference.closest_routing(ids) > ROUTING_NOISE:
                return ids
        pytest.fail(f"{self.model.name}: no prompt of {length} tokens whose routing is clear")


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.name)
def live(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hybrid")
    build(request.param, folder)
    return Live(request.param, folder, Reference.load(folder), random.Random(request.param.seed))


def test_prefill(plumb, parity, live):
    """transformers solves a triangular system for each 64 tokens, which at single positions of random models leaves the exact
    result by up to 1e-4, and ours by 1e-5: all positions together are held to the tolerance, and half of them to its quarter."""
    worst, clear_rows = dict.fromkeys(("all positions", "fp32 worst", "plumb from fp64", "transformers from fp64"), 0.0), 0
    for length in LENGTHS:
        ids = live.prompt(length)
        expected, exact = live.reference.logits(ids), plumb.logits(live.folder, ids, precision="fp64")
        actual = plumb.logits(live.folder, ids, precision="fp32")
        rows = row_distances(actual, expected)
        measured = {
            "all positions": prompt_distance(actual, expected),
            "fp32 worst": rows.max(),
            "plumb from fp64": row_distances(actual, exact).max(),
            "transformers from fp64": row_distances(expected, exact).max(),
        }
        assert measured["all positions"] <= fp32_limit(actual, exact), f"{length} tokens: {measured}"
        assert measured["plumb from fp64"] <= 5 * FP32_TOLERANCE, f"{length} tokens: {measured}"
        assert np.median(rows) <= FP32_TOLERANCE / 4
        clear = clear_choices(expected, CLEAR_CHOICE)
        assert (actual.argmax(axis=-1) == expected.argmax(axis=-1))[clear].all(), f"{length} tokens"
        worst = {name: max(value, measured[name]) for name, value in worst.items()}
        clear_rows += int(clear.sum())
    assert clear_rows > 0.9 * sum(LENGTHS)
    columns = {name: f"{value:.1e}" for name, value in worst.items()}
    parity.record_live(live.model.name, **_description(live.model), **columns, positions=sum(LENGTHS))


def _description(model):
    s = model.settings
    heads = f"{s['num_attention_heads']}/{s['num_key_value_heads']} x {s['head_dim']}"
    return {"hidden": s["hidden_size"], "heads": heads, "boundaries": "64, 128", "stored": model.stored}


def test_decode_from_a_cache(plumb, live):
    """Greedy tokens after prompts around a chunk's end, with the convolution's window and the state carried over."""
    for length in (1, 3, 62, 70, 130):
        ids = live.prompt(length)
        rows = live.reference.decode(ids, DECODE_STEPS)
        unclear = np.flatnonzero(~clear_choices(rows, CLEAR_CHOICE))
        compared = int(unclear[0]) if unclear.size else DECODE_STEPS
        tokens = plumb.greedy(live.folder, ids, DECODE_STEPS, precision="fp32")
        assert tokens[:compared] == rows.argmax(axis=-1)[:compared].tolist(), f"from {length} tokens on"


def test_splits(plumb, live):
    ids = live.prompt(150)
    whole = plumb.logits_file(live.folder, ids, threads=1).read_bytes()
    for chunk, threads in ((1, 1), (3, 2), (7, 2), (64, 2)):
        assert plumb.logits_file(live.folder, ids, chunk=chunk, threads=threads).read_bytes() == whole, f"chunk {chunk}"


def test_configuration_of_earlier_releases(plumb, live):
    config = stored_config(live.folder)
    old = as_published_before(config)
    # The reference itself must take the two for the same model.
    read = AutoConfig.for_model(**old)
    assert read.rope_parameters.items() >= config["rope_parameters"].items() and read.layer_types == config["layer_types"]
    ids = live.prompt(20)
    expected = plumb.logits_file(live.folder, ids).read_bytes()
    assert plumb.logits_file(live.folder, ids, config=plumb.write_config(old)).read_bytes() == expected


def test_wrapped_form(plumb, live, tmp_path):
    if live.model.model_type == "qwen3_next":  # has no wrapper
        return
    ids = live.prompt(20)
    wrapped = as_wrapped(live.folder, tmp_path / "wrapped")
    assert plumb.logits_file(wrapped, ids).read_bytes() == plumb.logits_file(live.folder, ids).read_bytes()


def test_converted_by_mlx(plumb, live, tmp_path):
    """mlx-lm adds 1 to the norms in the file's data type and stores the sum; in float32 nothing is lost."""
    if live.model.stored != "float32":  # and the first of each kind leaves layer_types out, of which mlx-lm knows nothing
        return
    ids = live.prompt(70)
    if live.model.model_type == "qwen3_next":
        source = shutil.copytree(live.folder, tmp_path / "source")
    else:
        source = as_wrapped(live.folder, tmp_path / "source")
    converted = as_converted_by_mlx(source, tmp_path / "converted")
    actual, exact = (plumb.logits(converted, ids, precision=p) for p in ("fp32", "fp64"))
    assert prompt_distance(actual, live.reference.logits(ids)) <= fp32_limit(actual, exact)


def test_drawn_conventions_matter(live):
    """In the reference, each convention that was drawn moves the logits: reading it wrongly could not have passed."""
    ids = live.prompt(100)
    expected = live.reference.logits(ids)
    for name, plant in live.model.mistakes.items():
        config = stored_config(live.folder)
        plant(config)
        moved = row_distances(live.reference.with_config(config).logits(ids), expected).max()
        assert moved > 10 * FP32_TOLERANCE, f"{name}: {moved:.1e}"


def test_three_of_each():
    kinds = [model.model_type for model in MODELS]
    assert all(kinds.count(kind) >= 3 for kind in set(kinds)) and torch.get_num_threads() == 1
