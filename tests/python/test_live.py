"""transformers and plumb side by side on models drawn for this run. PLUMB_LIVE_SEED repeats a run (the header names it)."""
import live_seed
import numpy as np
import pytest
import torch
from criteria import BF16_RATIO_LIMIT, row_distances
from live_checks import Live, check_decode, check_mistakes, check_prefill
from live_models import draw_models
from live_reference import Reference, as_published_before, stored_config
from transformers import AutoConfig

MODELS = draw_models(live_seed.SEED)
ROUTED_BF16_PROMPT = 8
BF16_PROMPTS = 3


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.name)
def live(request, tmp_path_factory):
    return Live.built(request.param, tmp_path_factory.mktemp("live"))


def test_prefill(plumb, parity, live):
    check_prefill(plumb, parity, live)


def test_decode_from_a_cache(plumb, live):
    check_decode(plumb, live)


@pytest.fixture(scope="module")
def bf16_ratios():
    """By live model: each position's distance of hf-bf16 from the reference's bfloat16, over the reference's own from its float32."""
    return {}


def test_hf_bf16(plumb, parity, live, bf16_ratios):
    """Most positions are bit-equal, but a flipped bit travels, and a model of a few thousand weights can be unlucky: hence the
    median here, and the limits in the next test."""
    bf16 = Reference.load(live.folder, torch.bfloat16)
    # Router logits in bfloat16 are often exactly equal, and torch.topk leaves open which of them wins: routed models get
    # prompts short enough to have no such tie.
    length = ROUTED_BF16_PROMPT if bf16.closest_routing([0]) < np.inf else len(live.longest)
    prompts = [live.prompt(length, bf16) for _ in range(BF16_PROMPTS)]
    ratios = []
    for ids in prompts:
        rounded = bf16.logits(ids)
        own = row_distances(live.reference.logits(ids), rounded)
        ratios.append(row_distances(plumb.logits(live.folder, ids, precision="hf-bf16"), rounded) / own)
    bf16_ratios[live.model.name] = np.concatenate(ratios)
    parity.record_live(live.model.name, **{"bf16 ratio, median": f"{np.median(bf16_ratios[live.model.name]):.2f}"})


def test_hf_bf16_of_each_architecture(bf16_ratios):
    assert set(bf16_ratios) == {model.name for model in MODELS}, "test_hf_bf16 has not run on all models"
    for model_type in {model.model_type for model in MODELS}:
        medians = [np.median(bf16_ratios[model.name]) for model in MODELS if model.model_type == model_type]
        assert min(medians) <= BF16_RATIO_LIMIT, f"{model_type}: {medians}"
    # Of all positions together: an exact emulation measures 0.0 to 0.2, float32 1.
    assert np.median(np.concatenate(list(bf16_ratios.values()))) <= 0.5


def test_splits(plumb, live):
    whole = plumb.logits_file(live.folder, live.longest, threads=1).read_bytes()
    for chunk, threads in ((1, 1), (5, 2), (len(live.longest), 2)):
        split = plumb.logits_file(live.folder, live.longest, chunk=chunk, threads=threads).read_bytes()
        assert split == whole, f"chunk {chunk}, {threads} threads"


def test_configuration_of_earlier_releases(plumb, live):
    config = stored_config(live.folder)
    old = as_published_before(config)
    # The reference itself must take the two for the same model.
    assert AutoConfig.for_model(**old).rope_parameters.items() >= AutoConfig.for_model(**config).rope_parameters.items()
    expected = plumb.logits_file(live.folder, live.longest).read_bytes()
    assert plumb.logits_file(live.folder, live.longest, config=plumb.write_config(old)).read_bytes() == expected


def test_drawn_conventions_matter(live):
    check_mistakes(live)


def test_at_least_twelve_models():
    assert len(MODELS) >= 12
