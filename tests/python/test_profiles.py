"""Honest rounding is told from a fault. The profiles of the reference executor round where engines do: mlx-lm's captures, taken live, and
what llama.cpp computed, recorded (tests/data/llama_cpp/whole, by tools/llama-cpp/eval_callback.cpp), equal them nearly to the bit, and no
right run raises an alarm in diagnose or compare."""

import gzip
import json
import shutil
import subprocess

import checkpoints
import gguf
import mlx.core as mx
import numpy as np
import plumb as package
import pytest
import torch
from capture_models import load as load_transformers
from capture_models import run as run_transformers
from gguf_files import rewrite, with_matrices_as
from mlx_forms import as_mlx_reads_it
from safetensors.numpy import load_file, save_file
from test_capture_mlx import load as load_mlx
from test_capture_mlx import run as run_mlx

IDS = [int(i) for i in np.random.default_rng(11).integers(3, 60, 40)]
DATA = checkpoints.REPOSITORY / "tests" / "data"
DUMPS = sorted((DATA / "llama_cpp" / "whole").glob("*.txt.gz"))
PLAIN = ("llama", "qwen2", "qwen3", "qwen3_5", "gemma3")
PACKED = ("qwen3-q3", "qwen3-nvfp4", "olmoe-q4", "qwen3_5-q4")
# Of each stage's elements, in each layer and pass, those that equal the profile's to the bit. The rest are sums in another order that
# fall to the other side of a rounding, of float16 eight times as many; a stage of a decode step may have few elements.
LEAST_EQUAL = {"bfloat16": 0.97, "float16": 0.85}
LIVE = [(name, "bfloat16") for name in PLAIN + PACKED] + [(name, "float16") for name in ("llama", "gemma3", "qwen3-nvfp4")]
IN_FLOAT32 = {"linear.state", "linear.g"}  # 24 bits of which the last are the order of summation


def answer(plumb_binary, *arguments):
    done = subprocess.run([plumb_binary, *map(str, arguments), "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def assert_benign(plumb_binary, trace, folder):
    report = answer(plumb_binary, "diagnose", trace, "--model", folder)
    assert (report["verdict"], report["findings"]) == ("benign", []), report["summary"]
    compared = answer(plumb_binary, "compare", trace, folder)
    assert compared["verdict"] == "agree", compared["summary"]
    return report["profiles"]


@pytest.mark.parametrize(("name", "dtype"), LIVE)
def test_mlx_rounds_as_its_profile(plumb_binary, tmp_path, name, dtype):
    folder = DATA / "mlx" / name if name in PACKED else checkpoints.folder(name)
    source = folder if name in PACKED else as_mlx_reads_it(folder, tmp_path / "model")
    model = load_mlx(source, getattr(mx, dtype))
    with package.capture(model, checkpoint=folder) as trace:
        run_mlx(model, IDS)
    trace.write(tmp_path / "mlx.trace")
    profiles = assert_benign(plumb_binary, tmp_path / "mlx.trace", folder)
    if (name, dtype) == ("qwen3-nvfp4", "float16"):
        return  # mlx-lm leaves its embedding in bfloat16 and runs the rest in float32
    (profile,) = profiles
    assert profile == {"bfloat16": "mlx-bf16", "float16": "mlx-fp16"}[dtype]
    least = {stage: share for stage, share in profiles[profile].items() if stage not in IN_FLOAT32}
    print(name, profile, min(least.items(), key=lambda item: item[1]))
    assert min(least.values()) >= LEAST_EQUAL[dtype], least


@pytest.mark.parametrize("name", ("llama", "gemma3", "qwen3-q3"))
def test_mlx_is_nearer_to_its_profile_than_to_transformers(plumb, tmp_path, name):
    """The whole network: other roundings are as far from mlx-lm's bfloat16 as two independent ones are."""
    folder = DATA / "mlx" / name if name in PACKED else checkpoints.folder(name)
    source = folder if name in PACKED else as_mlx_reads_it(folder, tmp_path / "model")
    logits = run_mlx(load_mlx(source, mx.bfloat16), IDS, steps=0)[0][0]

    def apart(precision):
        return np.linalg.norm(plumb.logits(folder, IDS, precision=precision) - logits) / np.linalg.norm(logits)

    own, other = apart("mlx-bf16"), apart("hf-bf16")
    print(f"{name}: {own:.1e} from mlx-bf16, {other:.1e} from hf-bf16")
    assert own <= 0.75 * other


@pytest.mark.parametrize("dump", DUMPS, ids=lambda path: path.name.removesuffix(".txt.gz"))
def test_llama_cpp_rounds_as_its_profile(plumb, plumb_binary, tmp_path, dump):
    name, kind, flash = dump.name.removesuffix(".txt.gz").rsplit("-", 2)
    model = tmp_path / "model.gguf"
    subprocess.run([plumb_binary, "convert", checkpoints.folder(name), model, "--type", kind], capture_output=True, check=True)
    with gzip.open(dump, "rt") as lines:
        trace = package.read_llama_cpp(lines)
    trace.write(tmp_path / "llama.trace")
    report = answer(plumb_binary, "diagnose", tmp_path / "llama.trace", "--model", model)
    assert set(report["profiles"]) == {"ggml-flash" if flash == "1" else "ggml"}, report["profiles"]
    if name == "gemma3":  # GGUF does not hold query_pre_attn_scalar (docs/gguf.md)
        assert [(f["row"], f["stage"]) for f in report["findings"]] == [("40", "layers.0.attn.context")], report["summary"]
        return
    assert report["verdict"] == "benign", report["summary"]
    # Rows of Llama's queries and keys stand in the order of neighbouring pairs, and neighbours are rotated.
    assert all(f["harmless"] for f in report["findings"]) and bool(report["findings"]) == (name == "llama")
    # A float32 run would be told apart: its products differ by what the operands lose.
    products = [c for c in ("attn.q", "attn.out", "attn.context") if f"layers.0.{c}" in trace.stages]
    exact = plumb_trace(plumb_binary, model, trace.token_ids, "fp32", tmp_path)
    profile = plumb_trace(plumb_binary, model, trace.token_ids, "ggml-flash" if flash == "1" else "ggml", tmp_path)
    for stage in products if name != "llama" else ["attn.context"]:
        theirs = trace[0, f"layers.0.{stage}"]
        own, other = (distance(t[0, f"layers.0.{stage}"], theirs) for t in (profile, exact))
        print(f"{dump.name} {stage}: {own:.1e} from its profile, {other:.1e} from fp32")
        assert own <= (0.3 if stage != "attn.out" else 0.4) * other, stage  # eight-bit codes that fall the other way, once more


def plumb_trace(plumb_binary, model, ids, precision, tmp_path):
    out = tmp_path / f"{precision}.trace"
    ids = ",".join(map(str, ids))
    subprocess.run(
        [plumb_binary, "trace", model, "--ids", ids, "--precision", precision, "--layers", "0", "--out", out],
        capture_output=True,
        check=True,
    )
    return package.Trace.read(out)


@pytest.mark.parametrize("plant", ["scale", "theta"])
def test_mlx_at_fault_is_named(plumb_binary, tmp_path, plant):
    folder = checkpoints.folder("qwen3")
    model = load_mlx(as_mlx_reads_it(folder, tmp_path / "model"), mx.bfloat16)
    for layer in model.layers:
        if plant == "scale":
            layer.self_attn.scale *= 1.25
        else:
            layer.self_attn.rope.base *= 10
    with package.capture(model, checkpoint=folder) as trace:
        run_mlx(model, IDS)
    trace.write(tmp_path / "mlx.trace")
    report = answer(plumb_binary, "diagnose", tmp_path / "mlx.trace", "--model", folder)
    expected = {"scale": ("layers.0.attn.context", "40"), "theta": ("layers.0.attn.q_rope", "31")}[plant]
    assert report["verdict"] == "fault" and expected in [(f["stage"], f["row"]) for f in report["findings"]], report["summary"]
    assert answer(plumb_binary, "compare", tmp_path / "mlx.trace", folder)["verdict"] == "differ"


@pytest.mark.parametrize(("dump", "key", "factor", "row"), [("qwen3-Q4_0-0", "rope_theta", 10, "31"), ("qwen3-F16-1", "rms_norm_eps", 10, "21")])
def test_llama_cpp_at_fault_is_named(plumb_binary, tmp_path, dump, key, factor, row):
    """What llama.cpp computed, judged by a checkpoint that asks for something else."""
    name, kind, _ = dump.rsplit("-", 2)
    shutil.copytree(checkpoints.folder(name), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    holder = config if key in config else config["rope_parameters"]
    holder[key] *= factor
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    subprocess.run([plumb_binary, "convert", tmp_path / "model", tmp_path / "model.gguf", "--type", kind], capture_output=True, check=True)
    with gzip.open(DATA / "llama_cpp" / "whole" / f"{dump}.txt.gz", "rt") as lines:
        package.read_llama_cpp(lines).write(tmp_path / "llama.trace")
    report = answer(plumb_binary, "diagnose", tmp_path / "llama.trace", "--model", tmp_path / "model.gguf")
    assert report["verdict"] == "fault" and {f["row"] for f in report["findings"]} == {row}, report["summary"]
    found = report["findings"][0]["found"]
    assert abs(found / (holder[key] / factor) - 1) < 1e-3, found


def attention_profile(trace):
    """Where the instruction set has products of integers of 16 bits, attention's are such."""
    path = json.loads((trace / "manifest.json").read_text())["engine"]["settings"]["path"]
    return "cpu-int16" if any(name in path for name in ("avx2", "avxvnni", "avx512", "amx")) else "cpu-int8"


@pytest.mark.parametrize(("name", "kind"), [("llama", "Q4_0"), ("qwen3", "Q8_0"), ("demo-qwen3", "Q4_K_M"), ("olmoe", "Q4_1")])
def test_the_cpu_executor_rounds_as_its_profile(plumb_binary, tmp_path, name, kind):
    model, out = tmp_path / "model.gguf", tmp_path / "cpu.trace"
    subprocess.run([plumb_binary, "convert", checkpoints.folder(name), model, "--type", kind], capture_output=True, check=True)
    command = [plumb_binary, "trace", model, "--ids", "5,17,42,33,8,21", "--executor", "cpu", "--steps", "2", "--out", out]
    subprocess.run(command, capture_output=True, check=True)
    assert set(assert_benign(plumb_binary, out, model)) == {attention_profile(out)}
    for coarse in ("logits", "layers.*.mlp.out") if name == "llama" else ():
        subprocess.run([*command, "--force", "--stages", coarse], capture_output=True, check=True)
        assert_benign(plumb_binary, out, model)
    if name == "qwen3":  # attention in float32
        subprocess.run([*command, "--force", "--isa", "portable"], capture_output=True, check=True)
        assert set(assert_benign(plumb_binary, out, model)) == {"cpu-int8"}
    config = json.loads((checkpoints.folder(name) / "config.json").read_text())
    config["rms_norm_eps"] *= 10
    (tmp_path / "config.json").write_text(json.dumps(config))
    subprocess.run([*command, "--force", "--config", tmp_path / "config.json"], capture_output=True, check=True)
    report = answer(plumb_binary, "diagnose", out, "--model", model)
    assert report["verdict"] == "fault" and {f["row"] for f in report["findings"]} == {"21"}, report["summary"]


@pytest.mark.parametrize("folder", ["quantised/llama-ct-mxfp4", "quantised/qwen3-ct-nvfp4", "quantised/qwen3-modelopt-nvfp4", "mlx/qwen3-nvfp4"])
def test_codebooks_meet_int8_as_the_profile_says(plumb_binary, tmp_path, folder):
    """Scales that lie beside the codes, in safetensors."""
    assert_cpu_benign(plumb_binary, DATA / folder, tmp_path / "cpu.trace", "--isa", "portable")


@pytest.mark.parametrize("name", ["demo-qwen3-gguf-iq4_xs", "demo-qwen3-gguf-q2_k", "gpt_oss-mxfp4", "qwen3_moe-ct-nvfp4"])
def test_rare_forms_meet_int8_as_the_profile_says(plumb_binary, tmp_path, shared_fixtures, name):
    folder = shared_fixtures / "quantised" / name
    gguf = folder / "model.gguf"
    assert_cpu_benign(plumb_binary, gguf if gguf.exists() else folder, tmp_path / "cpu.trace", "--isa", "portable")
    if gguf.exists():
        assert_cpu_benign(plumb_binary, gguf, tmp_path / "best.trace")


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
def test_ternary_digits_meet_int8_as_the_profile_says(plumb_binary, tmp_path, kind):
    """One is decoded to integers each time it is used, the other lies in panels."""
    model = tmp_path / "model.gguf"
    subprocess.run([plumb_binary, "convert", checkpoints.folder("demo-qwen3"), tmp_path / "f32.gguf", "--type", "F32"], capture_output=True, check=True)
    rewrite(tmp_path / "f32.gguf", model, with_matrices_as(gguf.GGMLQuantizationType[kind]))
    assert_cpu_benign(plumb_binary, model, tmp_path / "portable.trace", "--isa", "portable")
    assert_cpu_benign(plumb_binary, model, tmp_path / "best.trace")


@pytest.mark.parametrize("folder", ["quantised/qwen3-fp8-block", "quantised/llama-ct-int4-g32-zp", "mlx/qwen3-q3", "mlx/olmoe-q4"])
def test_what_meets_float32_is_told_from_a_head_of_two_bytes(plumb_binary, tmp_path, folder):
    """FP8, and integers with scales and offsets beside them: their activations are not rounded, nor is attention, but the head's may be."""
    out = tmp_path / "cpu.trace"
    assert_cpu_benign(plumb_binary, DATA / folder, tmp_path / "portable.trace", "--isa", "portable", profiles={"fp32"})
    for stages in ([], ["--stages", "logits"]):
        command = [plumb_binary, "trace", DATA / folder, "--ids", "5,17,42,33,8,21", "--executor", "cpu", "--steps", "2", "--out", out, "--force", *stages]
        subprocess.run(command, capture_output=True, check=True)
        codes = "int16" in json.loads((out / "manifest.json").read_text())["engine"]["settings"]["path"]
        profiles = assert_benign(plumb_binary, out, DATA / folder)
        assert stages or set(profiles) == {"cpu-int16" if codes else "fp32"}


def assert_cpu_benign(plumb_binary, model, out, *options, profiles=None):
    command = [plumb_binary, "trace", model, "--ids", "5,17,42,33,8,21", "--executor", "cpu", "--steps", "2", "--out", out, *options]
    subprocess.run(command, capture_output=True, check=True)
    assert set(assert_benign(plumb_binary, out, model)) == (profiles or {attention_profile(out)})


@pytest.mark.parametrize(("name", "kind"), [("llama", "BF16"), ("qwen3", "F16"), ("demo-qwen3", "BF16"), ("olmoe", "BF16"), ("qwen3_5", None)])
def test_codes_of_sixteen_bits_are_a_profile(plumb_binary, tmp_path, name, kind):
    """Weights of two bytes, which the cpu executor multiplies as codes of 16 bits where the instruction set has such products."""
    model, out = checkpoints.folder(name), tmp_path / "cpu.trace"
    if kind:
        model = tmp_path / "model.gguf"
        subprocess.run([plumb_binary, "convert", checkpoints.folder(name), model, "--type", kind], capture_output=True, check=True)
    command = [plumb_binary, "trace", model, "--ids", "5,17,42,33,8,21", "--executor", "cpu", "--steps", "2", "--out", out]
    subprocess.run(command, capture_output=True, check=True)
    path = json.loads((out / "manifest.json").read_text())["engine"]["settings"]["path"]
    codes = any(name in path for name in ("avx2", "avxvnni", "avx512")) or (kind == "F16" and "amx" in path)
    assert set(assert_benign(plumb_binary, out, model)) == {"cpu-int16" if codes else "fp32"}
    for coarse in ("logits", "layers.*.mlp.out"):
        subprocess.run([*command, "--force", "--stages", coarse], capture_output=True, check=True)
        assert_benign(plumb_binary, out, model)
    subprocess.run([*command, "--force", "--activations", "exact"], capture_output=True, check=True)
    assert set(assert_benign(plumb_binary, out, model)) == {"fp32"}
    config = json.loads((checkpoints.folder(name) / "config.json").read_text())
    config.get("text_config", config)["rms_norm_eps"] *= 10
    (tmp_path / "config.json").write_text(json.dumps(config))
    subprocess.run([*command, "--force", "--config", tmp_path / "config.json"], capture_output=True, check=True)
    report = answer(plumb_binary, "diagnose", out, "--model", model)
    assert report["verdict"] == "fault" and {f["row"] for f in report["findings"]} == {"21"}, report["summary"]


@pytest.mark.parametrize(("dtype", "least"), [("float32", -1e9), ("float32", -3.4028235e38), ("float32", -65504.0), ("float16", -65504.0)])
def test_masks_of_other_numbers_are_benign(plumb_binary, tmp_path, dtype, least):
    folder, out = checkpoints.folder("gemma3"), tmp_path / "a.trace"
    precision = {"float32": "fp32", "float16": "hf-fp16"}[dtype]
    subprocess.run(
        [plumb_binary, "trace", folder, "--ids", ",".join(map(str, IDS)), "--precision", precision, "--steps", "2", "--out", out],
        capture_output=True,
        check=True,
    )
    tensors = load_file(out / "tensors.safetensors")
    masked = 0
    for name, values in tensors.items():
        if name.endswith("attn.scores"):
            masked += np.isneginf(values).sum()
            tensors[name] = np.where(np.isneginf(values), np.array(least, values.dtype), values)
    assert masked > 100
    save_file(tensors, out / "tensors.safetensors")
    assert_benign(plumb_binary, out, folder)


def distance(a, b):
    return np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(np.asarray(b, np.float64))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ("qwen3", "olmoe", "qwen3_5"))
def test_right_runs_of_transformers(plumb_binary, tmp_path, name, dtype, attention):
    folder = checkpoints.folder(name)
    model = load_transformers(folder, dtype, attention)
    with package.capture(model, checkpoint=folder) as trace:
        run_transformers(model, IDS)
    trace.write(tmp_path / "hf.trace")
    assert_benign(plumb_binary, tmp_path / "hf.trace", folder)
