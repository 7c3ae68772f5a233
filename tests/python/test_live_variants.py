"""transformers and plumb side by side on drawn variants of the plain decoder: Gemma 2 and 3, gpt-oss, OLMo-2 and 3, Phi-3, SmolLM3,
GLM-4. PLUMB_LIVE_SEED repeats a run (the header names it)."""
import json

import live_seed
import pytest
from criteria import fp32_limit, row_distances
from live_checks import Live, check_decode, check_mistakes, check_prefill
from live_reference import as_published_before, stored_config
from live_variants import draw_models
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

MODELS = draw_models(live_seed.SEED)


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.name)
def live(request, tmp_path_factory):
    return Live.built(request.param, tmp_path_factory.mktemp("variant"))


def test_prefill(plumb, parity, live):
    check_prefill(plumb, parity, live)


def test_decode_from_a_cache(plumb, live):
    check_decode(plumb, live)


def test_drawn_conventions_matter(live):
    check_mistakes(live)


def test_splits(plumb, live):
    whole = plumb.logits_file(live.folder, live.longest, threads=1).read_bytes()
    for chunk, threads in ((1, 1), (7, 2)):
        assert plumb.logits_file(live.folder, live.longest, chunk=chunk, threads=threads).read_bytes() == whole, f"chunk {chunk}"


def _forms_before(config):
    """The forms that are published: Phi-3 calls longrope by its former name, Gemma 3 counts its layers. Where types of layers have
    their own rotation, the reference takes no notice of a scaling whose kind stands under the older key."""
    old = as_published_before(config)
    yield old
    if config["model_type"] == "phi3" and old["rope_scaling"]:
        yield old | {"rope_scaling": old["rope_scaling"] | {"type": "su"}}
    if config["model_type"] in ("gemma3_text", "olmo3") and old["rope_scaling"]:
        scaling = dict(old["rope_scaling"])
        yield old | {"rope_scaling": {"type": scaling.pop("rope_type")} | scaling}
    if config["model_type"] == "gemma3_text":
        yield {key: value for key, value in old.items() if key != "layer_types"} | {"sliding_window_pattern": 2}


def test_configuration_of_earlier_releases(plumb, live):
    """As the reference reads it, which for OLMo-3 is another model: the base of its windowed layers is not in the file."""
    for old in _forms_before(stored_config(live.folder)):
        expected = live.reference.with_config(old).logits(live.longest)
        config = plumb.write_config(old)
        actual, exact = (plumb.logits(live.folder, live.longest, precision=p, config=config) for p in ("fp32", "fp64"))
        assert row_distances(actual, expected).max() <= fp32_limit(actual, exact)


def test_beside_a_vision_tower(plumb, live, tmp_path):
    """Gemma 3 as it is published: a wrapper's names and configuration around the same text model."""
    if live.model.model_type != "gemma3_text" or live.model.shard_size:
        return
    config = stored_config(live.folder)
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": config}
    outer |= {"vision_config": {"model_type": "siglip_vision_model"}, "tie_word_embeddings": config["tie_word_embeddings"]}
    assert AutoConfig.for_model(**outer).text_config.rope_parameters == config["rope_parameters"]
    tensors = {f"language_model.{name}": tensor for name, tensor in load_file(live.folder / "model.safetensors").items()}
    (tmp_path / "config.json").write_text(json.dumps(outer))
    save_file(tensors, tmp_path / "model.safetensors")
    expected = plumb.logits_file(live.folder, live.longest).read_bytes()
    assert plumb.logits_file(tmp_path, live.longest).read_bytes() == expected


def test_three_of_each():
    kinds = [model.model_type for model in MODELS]
    assert len(set(kinds)) == 8 and all(kinds.count(kind) >= 3 for kind in kinds)
