"""The two executors, stage by stage: `plumb compare` of their traces says that they agree, on every checkpoint of tests/data and of
../shared/fixtures, and the trace of the fast one holds every stage of the reference's. Keys and values kept in eight bits are the
counterexample: compare finds the stage at which they begin to tell."""

import json
import pathlib
import subprocess

import checkpoints
import numpy as np
import pytest
from safetensors.numpy import load_file

STEPS = 2
FIXTURES = checkpoints.REPOSITORY.parent / "shared" / "fixtures" / "checkpoints"
SHARED = sorted(path.parent.name for path in FIXTURES.glob("*/config.json"))
STORED = [path for folder in ("variants", "quantised", "gguf", "mlx") for path in sorted((checkpoints.REPOSITORY / "tests/data" / folder).iterdir())]
CACHE_TYPES = ("f16", "bf16", "q8_0")


def model_folder(name):
    folder = checkpoints.folder(name)
    return folder if (folder / "model.safetensors").exists() else checkpoints.REPOSITORY / "models" / "demo"


def file_or_folder(folder):
    """What plumb is given of a folder of test data; nothing where it holds no model."""
    gguf = folder / "model.gguf"
    return gguf if gguf.exists() else folder if (folder / "config.json").exists() else None


def ids_of(model: pathlib.Path, count=40):
    if model.suffix == ".gguf":
        return ",".join(str((37 * i + 11) % 60) for i in range(count))  # in every vocabulary
    config = json.loads((model / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    return ",".join(str((37 * i + 11) % (vocabulary - 1)) for i in range(count))


def trace(plumb, model, out, *options):
    plumb.call("trace", model, "--ids", ids_of(model), "--steps", STEPS, "--ignore-eos", "--out", out, *options)
    return json.loads((out / "manifest.json").read_text())


def compare(plumb, a, b):
    done = subprocess.run([plumb.binary, "compare", a, b, "--json"], capture_output=True, timeout=300)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def check_that_they_agree(plumb, model, tmp_path):
    reference = trace(plumb, model, tmp_path / "reference.trace")
    fast = trace(plumb, model, tmp_path / "fast.trace", "--executor", "cpu", "--activations", "exact")
    assert fast["stages"] == reference["stages"] and fast["generated"] == reference["generated"]
    assert fast["engine"]["settings"]["executor"] == "cpu" and "exact" in fast["engine"]["settings"]["path"]
    code, answer = compare(plumb, tmp_path / "reference.trace", tmp_path / "fast.trace")
    assert (code, answer["verdict"]) == (0, "agree"), answer["summary"]
    assert len(answer["stages"]) == len(reference["stages"])


@pytest.mark.parametrize("name", checkpoints.names())
def test_compare_finds_the_two_executors_alike(plumb, tmp_path, name):
    check_that_they_agree(plumb, model_folder(name), tmp_path)


@pytest.mark.parametrize("folder", [path for path in STORED if path.is_dir()], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_compare_finds_them_alike_in_every_stored_form(plumb, tmp_path, folder):
    check_that_they_agree(plumb, file_or_folder(folder), tmp_path)


def test_compare_finds_them_alike_in_the_shared_forms(plumb, tmp_path, shared_fixtures, subtests):
    folders = [path for kind in ("quantised", "mlx") for path in sorted((shared_fixtures / kind).iterdir()) if path.is_dir()]
    models = [(path.name, file_or_folder(path)) for path in folders if file_or_folder(path) is not None]
    assert len(models) >= 30
    for name, model in models:
        with subtests.test(name):
            (tmp_path / name).mkdir()
            check_that_they_agree(plumb, model, tmp_path / name)


def test_compare_finds_them_alike_on_the_shared_checkpoints(plumb, tmp_path, shared_fixtures, subtests):
    assert SHARED
    for name in SHARED:
        with subtests.test(name):
            (tmp_path / name).mkdir()
            check_that_they_agree(plumb, shared_fixtures / "checkpoints" / name, tmp_path / name)


@pytest.mark.parametrize("name", checkpoints.names())
def test_tracing_changes_no_bit_of_the_logits(plumb, tmp_path, name):
    model = model_folder(name)
    trace(plumb, model, tmp_path / "fast.trace", "--executor", "cpu", "--chunk", "7")
    seen = load_file(tmp_path / "fast.trace" / "tensors.safetensors")["0/logits"]
    unseen = plumb.logits(model, ids_of(model).split(","), executor="cpu")
    assert seen.tobytes() == unseen.tobytes()


@pytest.mark.parametrize("kind", CACHE_TYPES)
def test_compare_names_where_a_shorter_cache_begins_to_tell(plumb, tmp_path, kind):
    model = model_folder("llama")
    trace(plumb, model, tmp_path / "f32.trace", "--executor", "cpu")
    trace(plumb, model, tmp_path / "brief.trace", "--executor", "cpu", "--cache-type", kind)
    code, answer = compare(plumb, tmp_path / "f32.trace", tmp_path / "brief.trace")
    assert (code, answer["verdict"]) == (1, "differ"), answer["summary"]
    assert answer["first_fault"] == "layers.0.attn.scores"


@pytest.mark.parametrize("kind", CACHE_TYPES)
def test_a_cache_type_keeps_the_logits_near(plumb, kind):
    model = model_folder("demo-qwen3")
    ids = ids_of(model, 200).split(",")
    exact = plumb.logits(model, ids, executor="cpu")
    brief = plumb.logits(model, ids, executor="cpu", cache_type=kind)
    distance = np.linalg.norm(brief - exact) / np.linalg.norm(exact)
    # Half a unit in the last place of 11, 8 and 7 bits, through a few layers.
    assert 0 < distance < {"f16": 1e-3, "bf16": 1e-2, "q8_0": 2e-2}[kind], distance


def test_what_a_cache_type_cannot_be_of_is_said(plumb):
    def refused(*options):
        command = [plumb.binary, "logits", *options, "--ids", "1,2"]
        done = subprocess.run(list(map(str, command)), capture_output=True, timeout=60)
        assert done.returncode == 1
        return done.stderr.decode()

    llama, deepseek = model_folder("llama"), model_folder("deepseek_v4")
    assert "f32, f16, bf16 and q8_0" in refused(llama, "--executor", "cpu", "--cache-type", "q4_0")
    assert "--cache-type is for the cpu executor" in refused(llama, "--cache-type", "f16")
    assert "keeps keys and values apart" in refused(deepseek, "--executor", "cpu", "--cache-type", "f16")
