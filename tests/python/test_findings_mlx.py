"""A real engine under the instruments: mlx-lm on our checkpoints, captured live, compared and diagnosed, as docs/findings.md
tells it. Each departure is named by its row, at its stage, and proved over the whole network; where mlx-lm departs from
nothing, nothing is found."""

import json
import subprocess

import checkpoints
import mlx.core as mx
import plumb as package
import pytest
from capture_models import VARIANTS, drawn_deepseek_v3, drawn_variant
from mlx_forms import as_mlx_reads_it
from test_capture_mlx import load, run

IDS = [int(i) for i in checkpoints.golden("llama")["long"].ids[:40]]
# Departures in float32: row, stage, expected, found.
DEPARTURES = {
    "gemma2": ("42", "layers.0.attn.context", 24, None),
    "gemma3": ("27", "embed", pytest.approx(128**0.5), 11.3125),
    "gpt_oss": ("32", "layers.0.attn.q_rope", False, True),
    "qwen3_5": ("23", "layers.0.attn.norm", "float32", "bfloat16"),
}
NONE = ("llama", "qwen2", "qwen3", "qwen3_moe", "olmoe", "mixtral")
QUANTISED = ("qwen3-q3", "qwen3-nvfp4", "olmoe-q4")


def diagnosed(plumb_binary, model, folder, tmp_path, ids=IDS):
    with package.capture(model, checkpoint=folder) as trace:
        run(model, ids)
    trace.write(tmp_path / "mlx.trace", force=True)
    report = answer(plumb_binary, "diagnose", tmp_path / "mlx.trace", "--model", folder)
    print(report["summary"])
    return report


def compared_and_diagnosed(plumb_binary, model, folder, tmp_path, ids=IDS):
    report = diagnosed(plumb_binary, model, folder, tmp_path, ids)
    # The comparison with what plumb computes from the same ids sees the departure where the diagnosis does.
    compared = answer(plumb_binary, "compare", tmp_path / "mlx.trace", folder)
    first = report["findings"][0]["stage"] if report["findings"] else None
    assert (compared["verdict"], compared["first_fault"]) == ("differ" if first else "agree", first), compared["summary"]
    return report


def answer(plumb_binary, *arguments):
    done = subprocess.run([plumb_binary, *arguments, "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", DEPARTURES)
def test_a_departure_is_named_and_proved(plumb_binary, tmp_path, name):
    folder = checkpoints.folder(name)
    report = compared_and_diagnosed(plumb_binary, load(as_mlx_reads_it(folder, tmp_path / "model"), mx.float32), folder, tmp_path)
    assert report["verdict"] == "fault" and len(report["findings"]) == 1, report["summary"]
    finding = report["findings"][0]
    assert (finding["row"], finding["stage"], finding["expected"], finding["found"]) == DEPARTURES[name] and finding["proved"]


def test_mistrals_window_is_not_read(plumb_binary, tmp_path, tmp_path_factory):
    folder = drawn_variant("mistral").folder(tmp_path_factory)
    ids = [i % 60 for i in IDS]
    report = compared_and_diagnosed(plumb_binary, load(as_mlx_reads_it(folder, tmp_path / "model"), mx.float32), folder, tmp_path, ids)
    (finding,) = report["findings"]
    window = json.loads((folder / "config.json").read_text())["sliding_window"]
    assert (finding["row"], finding["stage"], finding["expected"], finding["found"]) == (
        "42",
        "layers.0.attn.context",
        window,
        None,
    )
    assert finding["proved"]


def test_deepseek_v3_is_rotated_in_neighbouring_pairs_always(plumb_binary, tmp_path, tmp_path_factory):
    folder = drawn_deepseek_v3(1).folder(tmp_path_factory)
    assert json.loads((folder / "config.json").read_text())["rope_interleave"] is False
    ids = [i % 60 for i in IDS]
    report = compared_and_diagnosed(plumb_binary, load(as_mlx_reads_it(folder, tmp_path / "model"), mx.float32), folder, tmp_path, ids)
    finding = report["findings"][0]
    assert (finding["row"], finding["stage"], finding["found"]) == ("30", "layers.0.attn.kv_rope", "interleaved"), report[
        "summary"
    ]


@pytest.mark.parametrize("name", NONE)
def test_nothing_is_found_where_nothing_departs(plumb_binary, tmp_path, name):
    folder = checkpoints.folder(name)
    report = compared_and_diagnosed(plumb_binary, load(as_mlx_reads_it(folder, tmp_path / "model"), mx.float32), folder, tmp_path)
    assert (report["verdict"], report["findings"]) == ("benign", []), report["summary"]


@pytest.mark.parametrize("name", ["glm4", "olmo2", "olmo3", "smollm3"])
def test_nothing_is_found_in_variants(plumb_binary, tmp_path, name):
    model = load(as_mlx_reads_it(VARIANTS / name, tmp_path / "model"), mx.float32)
    report = compared_and_diagnosed(plumb_binary, model, VARIANTS / name, tmp_path, [i % 90 for i in IDS])
    assert (report["verdict"], report["findings"]) == ("benign", []), report["summary"]


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_weights_are_those_that_plumb_reads(plumb_binary, tmp_path, name):
    """mlx-lm multiplies by packed weights; plumb reads the same files exactly."""
    folder = checkpoints.REPOSITORY / "tests" / "data" / "mlx" / name
    report = diagnosed(plumb_binary, load(folder, mx.float32), folder, tmp_path)
    assert (report["verdict"], report["findings"]) == ("benign", []), report["summary"]
