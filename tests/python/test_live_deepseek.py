"""transformers and plumb side by side on DeepSeek-V3 and DeepSeek-V4 models drawn for this run. PLUMB_LIVE_SEED repeats a run."""
import random
from dataclasses import dataclass

import live_seed
import numpy as np
import pytest
import torch
from criteria import FP32_TOLERANCE, clear_choices, row_distances
from live_reference import EAGER, Reference, stable_topk
from transformers import AutoConfig, AutoModelForCausalLM

WINDOW, HEAVY, SPARSE = "sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention"
# Around blocks of 4 and up to 9 tokens, windows of up to 12, and past the choice of 2 or 3 blocks.
LENGTHS = (1, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 40, 90)
DECODE_STEPS = 20
CLEAR_CHOICE = 1e-5  # closer choices than the noise of float32 are not compared
STABLE = 5e-6  # of float32 from float64: beyond, a router or an index was undecided


@dataclass(frozen=True)
class LiveModel:
    name: str
    model_type: str
    settings: dict
    seed: int  # of the weights and the prompts


def _v3(rng, index):
    groups = (1, 3, 4)[index % 3]
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 4.0, "beta_slow": 1.0, "mscale": 1.0}
    yarn |= {"mscale_all_dim": 0.8, "original_max_position_embeddings": 32}
    heads = rng.choice([3, 4])
    return {
        "vocab_size": rng.randint(70, 140),
        "hidden_size": 48,
        "intermediate_size": rng.randint(40, 80),
        "moe_intermediate_size": rng.randint(12, 30),
        "num_hidden_layers": 3,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "n_shared_experts": rng.choice([1, 2]),
        "n_routed_experts": 12,
        "num_experts_per_tok": rng.choice([2, 3]),
        "n_group": groups,
        "topk_group": 1 if groups == 1 else rng.randint(1, 2) if groups == 3 else 2,
        "kv_lora_rank": rng.randint(12, 24),
        "q_lora_rank": (None, 24, 16)[index % 3],
        "qk_rope_head_dim": rng.choice([8, 12]),
        "qk_nope_head_dim": rng.randint(8, 16),
        "v_head_dim": rng.randint(8, 16),
        "first_k_dense_replace": 1,
        "norm_topk_prob": index % 3 != 1,
        "rope_interleave": index % 2 == 0,
        "attention_bias": rng.random() < 0.5,
        "routed_scaling_factor": 2.5,
        # Far from 1e-6, which the norms of the latents keep.
        "rms_norm_eps": 1e-3,
        "max_position_embeddings": 512,
        "rope_parameters": yarn if index % 2 == 0 else {"rope_type": "default", "rope_theta": 10000.0},
    }


def _v4(rng, index):
    yarn = {"rope_type": "yarn", "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 64}
    heads = rng.choice([4, 6])
    hashed = rng.randint(1, 2)
    return {
        "vocab_size": rng.randint(70, 140),
        "hidden_size": 64,
        "num_hidden_layers": 5,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "partial_rotary_factor": rng.choice([0.25, 0.5]),
        "q_lora_rank": rng.choice([24, 32]),
        "o_groups": 2,
        "o_lora_rank": 16,
        "n_routed_experts": rng.choice([6, 8]),
        "n_shared_experts": 1,
        "num_experts_per_tok": rng.choice([2, 3]),
        "moe_intermediate_size": rng.choice([48, 64]),
        "max_position_embeddings": 512,
        "sliding_window": rng.randint(5, 12),
        "layer_types": rng.sample([WINDOW, HEAVY, SPARSE, HEAVY, SPARSE], 5),
        "mlp_layer_types": ["hash_moe"] * hashed + ["moe"] * (5 - hashed),
        "compress_rates": {SPARSE: 4, HEAVY: rng.randint(5, 9)},
        "index_n_heads": rng.choice([2, 3]),
        "index_head_dim": 16,
        "index_topk": rng.choice([2, 3]),
        "hc_mult": (2, 4, 3)[index % 3],
        "hc_sinkhorn_iters": rng.choice([3, 20]),
        "swiglu_limit": 0.5,
        "routed_scaling_factor": 1.5,
        "rope_theta": 10000.0,
        "compress_rope_theta": 160000.0,
        "num_nextn_predict_layers": 0,
        "rope_parameters": {"rope_type": "default"} if index % 3 == 2 else yarn,
    }


def _draw():
    rng = random.Random(live_seed.SEED)
    drawn = [("deepseek_v3", _v3, i) for i in range(3)] + [("deepseek_v4", _v4, i) for i in range(4)]
    return [LiveModel(f"{kind} {i}", kind, draw(rng, i), rng.randrange(2**31)) for kind, draw, i in drawn]


def _random(name, tensor, experts, generator):
    """Nothing at the 0 or 1 that the reference initialises, which would hide a forgotten tensor."""
    if "tid2eid" in name:
        return torch.stack([torch.randperm(experts, generator=generator)[: tensor.shape[1]] for _ in tensor])
    if "norm" in name:
        return 0.5 + torch.rand(tensor.shape, generator=generator)
    values = torch.randn(tensor.shape, generator=generator)
    if tensor.ndim == 1 or "position_bias" in name:
        return 0.5 * values
    return 1.3 * values / tensor.shape[-1] ** 0.5


def build(model, folder):
    generator = torch.Generator().manual_seed(model.seed)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(model.model_type, **model.settings), **EAGER)
    buffers = [(name, value) for name, value in network.named_buffers() if "inv_freq" not in name]
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *buffers]:
            tensor.copy_(_random(name, tensor, model.settings["n_routed_experts"], generator))
    network.save_pretrained(folder)


@pytest.fixture(scope="module", autouse=True)
def ties_go_to_the_lowest_index():
    with stable_topk():
        yield


@dataclass(frozen=True)
class Live:
    model: LiveModel
    folder: object
    reference: Reference
    rng: random.Random

    def prompt(self, plumb, length):
        for _ in range(50):
            ids = [self.rng.randrange(self.model.settings["vocab_size"]) for _ in range(length)]
            exact, single = (plumb.logits(self.folder, ids, precision=p) for p in ("fp64", "fp32"))
            if row_distances(single, exact).max() <= STABLE:
                return ids, single
        pytest.fail(f"{self.model.name}: no prompt of {length} tokens whose choices are clear")


@pytest.fixture(scope="module", params=_draw(), ids=lambda model: model.name)
def live(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepseek")
    build(request.param, folder)
    return Live(request.param, folder, Reference.load(folder), random.Random(request.param.seed))


def test_prefill(plumb, parity, live):
    worst, clear_rows = 0.0, 0
    for length in LENGTHS:
        ids, actual = live.prompt(plumb, length)
        expected = live.reference.logits(ids)
        distance = row_distances(actual, expected).max()
        assert distance <= FP32_TOLERANCE, f"{length} tokens: {distance:.1e}"
        clear = clear_choices(expected, CLEAR_CHOICE)
        assert (actual.argmax(axis=-1) == expected.argmax(axis=-1))[clear].all(), f"{length} tokens"
        worst, clear_rows = max(worst, distance), clear_rows + int(clear.sum())
    assert clear_rows > 0.9 * sum(LENGTHS)
    parity.record_live(live.model.name, **{"fp32 worst": f"{worst:.1e}", "positions": sum(LENGTHS)})


def test_decode(plumb, live):
    """A prefill and then single tokens, in transformers with its caches."""
    for length in (3, 11, 40):
        ids, _ = live.prompt(plumb, length)
        rows = live.reference.decode(ids, DECODE_STEPS)
        fed = [*ids, *rows[:-1].argmax(axis=-1).tolist()]
        actual = plumb.logits(live.folder, fed, precision="fp32", chunk=1)[length - 1 :]
        assert row_distances(actual, rows).max() <= FP32_TOLERANCE, f"{length} tokens"


def test_splits_keep_the_bits(plumb, live):
    ids, whole = live.prompt(plumb, 60)
    for chunk in (1, 3, 7):
        assert np.array_equal(plumb.logits(live.folder, ids, precision="fp32", chunk=chunk), whole)
    assert np.array_equal(plumb.logits(live.folder, ids, precision="fp32", threads=1), whole)
