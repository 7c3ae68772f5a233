"""plumb show."""
import json

import pytest
from cli_support import DEMO


def test_show_names_every_convention(plumb):
    answer = plumb("show", DEMO)
    assert answer.code == 0 and answer.err == ""
    assert plumb("show").out.splitlines()[1:] == answer.out.splitlines()[1:]
    for words in ("qwen3", "rms_norm_eps", "layers 0-3, alike", "eps 1e-06", "eps_place inside_root", "pairing half_split",
                  "frequencies.theta 1000000", "groups repeat", "window none", "model.layers.{0-3}.mlp.up_proj.weight", "BF16",
                  "with a context of 1024 tokens"):
        assert words in answer.out, words
    assert "layers 0-3, alike" not in plumb("show", DEMO, "--all").out
    assert "model.layers.3.mlp.up_proj.weight" in plumb("show", DEMO, "--all").out


def test_show_json(plumb):
    result = plumb("show", DEMO, "--json", "--context", 100).json()
    assert result["config"] == json.loads((DEMO / "config.json").read_text())
    assert result["stop_ids"] == [0, 2]
    stages = {stage["name"]: stage for stage in result["stages"]}
    assert stages["layers.2.attn.q_rope"]["conventions"]["pairing"] == "half_split"
    assert stages["layers.2.attn.q_rope"]["outputs"][0]["shape"] == [4, 96]
    tensors = {tensor["name"]: tensor for tensor in result["tensors"]}
    stored = {}
    with open(DEMO / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        stored = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert set(tensors) == set(stored)
    for name, entry in stored.items():
        begin, end = entry["data_offsets"]
        assert (tensors[name]["shape"], tensors[name]["format"], tensors[name]["bytes"]) == (entry["shape"], entry["dtype"], end - begin)
    memory = result["memory"]
    assert memory["weight_bytes"] == sum(tensor["bytes"] for tensor in tensors.values())
    codes = "attention: int16" in result["executor"]  # two bytes a channel, and a scale of four for each row
    assert memory["state_bytes_per_token"] == 4 * 2 * 2 * (96 * 2 + 4 if codes else 96 * 4)
    assert memory["state_bytes"] == 100 * memory["state_bytes_per_token"]
    assert "cpu executor" in result["executor"]
    assert codes == any(name in result["executor"] for name in ("avx2", "avxvnni", "avx512"))  # whose products of 16-bit integers are the quicker ones
    met_by = "int16" if codes else "float32"
    assert f"panels, {met_by} activations" in tensors["model.layers.0.mlp.up_proj.weight"]["runs_as"]
    reference = plumb("show", DEMO, "--json", "--context", 100, "--executor", "reference").json()
    assert "reference executor" in reference["executor"]
    assert reference["memory"]["state_bytes_per_token"] == 4 * 2 * 2 * 96 * 8
    assert all(tensor["runs_as"] == "" for tensor in reference["tensors"])


@pytest.mark.parametrize(("options", "computed", "bytes_of_a_head"), [
    (["--activations", "exact"], "exact activations (products: float32; attention: float32)", 2 * 96 * 4),
    (["--cache-type", "f16"], "attention: float32), f16 cache", 2 * 96 * 2),
    (["--cache-type", "q8_0"], "attention: float32), q8_0 cache", 2 * (96 + 3 * 2)),
    (["--isa", "portable"], "auto activations (products: float32; attention: float32)", 2 * 96 * 4),
])
def test_show_says_what_is_computed_with_and_what_is_kept(plumb, options, computed, bytes_of_a_head):
    result = plumb("show", DEMO, "--json", *options).json()
    assert computed in result["executor"]
    assert result["memory"]["state_bytes_per_token"] == 4 * 2 * bytes_of_a_head
    assert f"({bytes_of_a_head / (2 * 96):.3g} bytes a number)" in plumb("show", DEMO, *options).out


def test_show_says_what_a_quantised_file_is_computed_with(plumb, tmp_path):
    file = tmp_path / "demo.gguf"
    assert plumb("convert", DEMO, file, "--type", "Q8_0").code == 0
    words = plumb("show", file, "--isa", "portable", "--json").json()["executor"]
    assert "auto activations (products: int8; attention: float32)" in words
