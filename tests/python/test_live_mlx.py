"""mlx-lm, NumPy's decoders and plumb side by side: checkpoints as mlx-lm reads them, matrices that mlx quantises now, each module in a
form of its own, and GPTQ and AWQ as their published layouts pack them. PLUMB_LIVE_SEED repeats a run."""
import json
import random
import shutil

import checkpoints
import live_seed
import mlx.core as mx
import numpy as np
import pytest
import torch
from criteria import FP32_TOLERANCE, argmax_agreement, prompt_distance, row_distances
from live_reference import Reference
from mlx_lm.models.rope_utils import initialize_rope
from mlx_lm.utils import load_model
from safetensors.numpy import save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

mx.set_default_device(mx.cpu)
# mlx-lm rounds to bfloat16 at other places than transformers, which `hf-bf16` follows: two roundings that know nothing of each
# other are as far apart as the root of the sum of their squared noises, here over all prompts.
BF16_NOISE = 1.1
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def mlx_logits(folder, ids, dtype):
    model, _ = load_model(folder)
    model.set_dtype(dtype)
    return np.array(model(mx.array([ids.tolist()]))[0].astype(mx.float32))


def as_mlx_reads_it(name, target):
    """mlx-lm takes the configuration that releases of transformers before 5 write."""
    target.mkdir()
    shutil.copy(checkpoints.folder(name) / "config.v4.json", target / "config.json")
    shutil.copy(checkpoints.folder(name) / "model.safetensors", target)
    return target


@pytest.mark.parametrize("name", ["llama", "qwen3", "olmoe"])
def test_checkpoints(plumb, parity, tmp_path, name):
    folder = as_mlx_reads_it(name, tmp_path / name)
    worst, apart, noise = 0, 0, 0
    for prompt in checkpoints.golden(name).values():
        theirs = mlx_logits(folder, prompt.ids, mx.float32)
        worst = max(worst, prompt_distance(plumb.logits(folder, prompt.ids, precision="fp32"), theirs))
        assert worst < FP32_TOLERANCE, prompt.name
        if name == "olmoe":  # mlx gathers experts in float32 only on a CPU
            continue
        rounded = mlx_logits(folder, prompt.ids, mx.bfloat16)
        apart += np.square(plumb.logits(folder, prompt.ids, precision="hf-bf16") - rounded).sum()
        noise += np.square(rounded - theirs).sum() + np.square(prompt.logits_bf16 - prompt.logits_f32).sum()
    parity.record_live(f"{name}, mlx-lm", **{"stored": "bfloat16", "fp32 worst": f"{worst:.1e}"})
    if noise:
        print(f"{name}: bfloat16 {np.sqrt(apart / noise):.2f} of both noises")
        assert np.sqrt(apart / noise) < BF16_NOISE


FORMS = [{"group_size": g, "bits": b} for g in (32, 64, 128) for b in (2, 3, 4, 5, 6, 8)]
FORMS += [{"group_size": 32, "bits": 4, "mode": "mxfp4"}, {"group_size": 32, "bits": 8, "mode": "mxfp8"},
          {"group_size": 16, "bits": 4, "mode": "nvfp4"}]


def quantise(tensors, rng):
    """What mlx-lm would store of each matrix, its form, and the float32 values that mlx gives back."""
    stored, forms, values = {}, {}, {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            stored[name] = values[name] = tensor.astype(mx.float32)
            continue
        module = name.removesuffix(".weight")
        form = rng.choice([f for f in FORMS if tensor.shape[1] % f["group_size"] == 0])
        words, scales, *biases = mx.quantize(tensor, **form)
        stored |= {name: words, f"{module}.scales": scales} | ({f"{module}.biases": biases[0]} if biases else {})
        forms[module] = form
        wide = [x.astype(mx.float32) for x in (scales, *biases)] if biases else [scales]
        values[name] = mx.dequantize(words, *wide, **form, dtype=mx.float32)
    return stored, forms, values


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_freshly_quantised(plumb, parity, tmp_path, name):
    """The forms that `forms` does not name by a mode are affine; what the file says of all modules applies to none of them."""
    plain = as_mlx_reads_it(name, tmp_path / "plain")
    stored, forms, values = quantise(mx.load(str(plain / "model.safetensors")), random.Random(live_seed.SEED))
    packed = tmp_path / "packed"
    packed.mkdir()
    config = json.loads((plain / "config.json").read_text())
    config["quantization"] = config["quantization_config"] = {"group_size": 32, "bits": 4, "mode": "mxfp4", **forms}
    (packed / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(packed / "model.safetensors"), stored)
    load_model(packed)  # mlx-lm takes the file too
    mx.save_safetensors(str(plain / "model.safetensors"), values)
    ids = np.array(random.Random(live_seed.SEED).choices(range(1024), k=80))
    ours, theirs = plumb.logits(packed, ids, precision="fp32"), mlx_logits(plain, ids, mx.float32)
    distance = prompt_distance(ours, theirs)
    parity.record_live(f"{name}, mlx", **{"stored": "a form per module", "fp32 worst": f"{distance:.1e}"})
    assert distance < FP32_TOLERANCE, forms
    assert argmax_agreement(ours, theirs) == len(ids)


def packed_words(codes, bits):
    """Fields of `bits` bits along the last axis, least significant first."""
    per_word = 32 // bits
    fields = codes.astype(np.uint64).reshape(*codes.shape[:-1], -1, per_word)
    words = (fields << (np.arange(per_word, dtype=np.uint64) * bits)).sum(-1).astype(np.uint32)
    return np.ascontiguousarray(words).view(np.int32)  # safetensors stores memory as it lies


def pack(method, weight, group, rng):
    """A matrix [out, in] in the layout of `method`, and the float32 values of its codes."""
    outputs, inputs = weight.shape
    groups = inputs // group
    group_of = np.arange(inputs) // group
    if method == "gptq-order":
        rng.shuffle(group_of)
    bits = 8 if method == "gptq-8" else 4
    scales, zeros = np.zeros((groups, outputs), np.float16), np.zeros((groups, outputs), np.int64)
    codes = np.zeros((inputs, outputs), np.int64)
    for g in range(groups):
        rows = weight.T[group_of == g]
        low, high = rows.min(0), rows.max(0)
        scales[g] = np.maximum((high - low) / (2**bits - 1), 1e-4)
        wide = scales[g].astype(np.float32)
        zeros[g] = np.clip(np.round(-low / wide), 1, 2**bits - 1)
        codes[group_of == g] = np.clip(np.round(rows / wide) + zeros[g], 0, 2**bits - 1)
    values = (scales[group_of].astype(np.float32) * (codes - zeros[group_of]).astype(np.float32)).T
    if method == "awq":
        order = np.arange(outputs).reshape(-1, 8)[:, AWQ_ORDER].ravel()
        tensors = {"qweight": packed_words(codes[:, order], 4), "qzeros": packed_words(zeros[:, order], 4)}
    else:
        less = 0 if method == "gptq-v2" else 1
        tensors = {"qweight": np.ascontiguousarray(packed_words(codes.T, bits).T),
                   "qzeros": packed_words(zeros - less, bits), "g_idx": group_of.astype(np.int32)}
    return tensors | {"scales": scales}, np.ascontiguousarray(values)


@pytest.mark.parametrize("method", ["gptq", "gptq-v2", "gptq-order", "gptq-8", "awq"])
def test_packed_columns(plumb, parity, tmp_path, method):
    group, rng = 32, np.random.default_rng(live_seed.SEED)
    torch.manual_seed(live_seed.SEED)
    config = LlamaConfig(vocab_size=320, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=24, max_position_embeddings=256, tie_word_embeddings=False)
    network = LlamaForCausalLM(config)
    stored = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.copy_(0.5 + torch.rand(parameter.shape))
            elif parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape) * (1 if "embed" in name else 1.3 / parameter.shape[1] ** 0.5))
            if "_proj" not in name:
                stored[name] = parameter.numpy().copy()
                continue
            tensors, values = pack(method, parameter.numpy(), group, rng)
            stored |= {f"{name.removesuffix('weight')}{part}": tensor for part, tensor in tensors.items()}
            parameter.copy_(torch.from_numpy(values))
    network.save_pretrained(tmp_path)
    said = {"quant_method": method.partition("-")[0], "bits": 8 if method == "gptq-8" else 4, "group_size": group}
    said |= {"version": "gemm", "zero_point": True} if method == "awq" else {"desc_act": method == "gptq-order"}
    said |= {"checkpoint_format": "gptq_v2"} if method == "gptq-v2" else {}
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "config.json").write_text(json.dumps(json.loads((tmp_path / "config.json").read_text()) | {"quantization_config": said}))
    save_file(stored, packed / "model.safetensors", metadata={"format": "pt"})
    ids = rng.integers(0, 320, 60)
    theirs = Reference.load(tmp_path).logits(ids.tolist())
    distance = prompt_distance(plumb.logits(packed, ids, precision="fp32"), np.asarray(theirs))
    parity.record_live(f"llama, {method}", **{"stored": "int8" if method == "gptq-8" else "int4", "fp32 worst": f"{distance:.1e}"})
    assert distance < FP32_TOLERANCE


def test_windows_that_mlx_lm_leaves_out(plumb, tmp_path):
    """docs/findings.md: mlx-lm's Gemma 2 attends to everything, so it is right inside the first window of 24 and nowhere past it."""
    folder = as_mlx_reads_it("gemma2", tmp_path / "gemma2")
    prompt = checkpoints.golden("gemma2")["long"]
    distances = row_distances(mlx_logits(folder, prompt.ids, mx.float32), prompt.logits_f32)
    print(f"gemma2: mlx-lm {distances[:24].max():.1e} inside the window, {np.median(distances[24:]):.2f} past it (median)")
    assert distances[:24].max() < FP32_TOLERANCE < np.median(distances[24:])
    ours = row_distances(plumb.logits(folder, prompt.ids, precision="fp32"), prompt.logits_f32)
    assert ours.max() < FP32_TOLERANCE


def test_truncation_that_mlx_lm_leaves_out():
    """docs/findings.md: mlx-lm's YaRN moves the ends of its ramp to whole channels whatever `truncate` says; gpt-oss says false."""
    old = checkpoints.config("gpt_oss", "config.v4.json")
    assert old["rope_scaling"]["truncate"] is False
    rope = initialize_rope(old["head_dim"], old["rope_theta"], False, old["rope_scaling"], old["max_position_embeddings"])
    config = AutoConfig.from_pretrained(checkpoints.folder("gpt_oss"))
    errors = {}
    for truncate in (False, True):
        config.rope_parameters["truncate"] = truncate
        frequencies = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")[0].numpy()
        errors[truncate] = np.abs(1 / np.array(rope._freqs) / frequencies - 1).max()
    print(f"gpt_oss: frequencies of mlx-lm off by up to {errors[False]:.2f}, by {errors[True]:.1e} from truncate: true")
    assert errors[True] < 1e-6 < errors[False]
