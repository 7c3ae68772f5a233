"""Models that are damaged as a whole: one sentence. test_hostile_files.py has the files that lie about themselves."""
import shutil

import numpy as np
import pytest
from cli_support import MODEL, PROMPT, edit_json
from safetensors.numpy import save_file


@pytest.mark.parametrize("kind, says", [("short", "model.safetensors: tensor "), ("NaN weights", " are not finite")])
def test_spoiled_weights(fails, copy, kind, says):
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    if kind == "short":
        data = data[: len(data) // 2]
    else:
        begin = 8 + int.from_bytes(data[:8], "little")
        data[begin:] = b"\xff\x7f" * ((len(data) - begin) // 2)
    path.write_bytes(data)
    fails("run", copy, PROMPT, says=says)
    fails("logits", copy, PROMPT, "--json", says=says)


@pytest.mark.parametrize("experts", [0, -1, 9, 60000, 2**31 - 1, 2**62])
def test_impossible_number_of_experts(fails, tmp_path, experts):
    folder = shutil.copytree(MODEL.parent / "olmoe", tmp_path / "olmoe", ignore=shutil.ignore_patterns("golden"))
    edit_json(folder / "config.json", num_experts=experts, num_hidden_layers=2048)
    fails("run", folder, "x", says="")


def test_missing_pieces_of_a_model(fails, copy):
    (copy / "model.safetensors").unlink()
    fails("run", copy, PROMPT, says="model.safetensors")
    (copy / "config.json").unlink()
    fails("run", copy, PROMPT, says="config.json")
    fails("show", copy, says="config.json")


def test_a_missing_misshapen_or_unclaimed_tensor_is_named(fails, copy):
    tensors = {name: value.copy() for name, value in load_as_float(copy / "model.safetensors").items()}
    name = "model.layers.1.self_attn.k_norm.weight"
    for change, says in ((lambda t: t.pop(name), name), (lambda t: t.update({name: np.ones(95, np.float32)}), name),
                         (lambda t: t.update({"model.layers.9.extra.weight": np.ones(3, np.float32)}), "model.layers.9.extra.weight")):
        changed = dict(tensors)
        change(changed)
        save_file(changed, copy / "model.safetensors")
        fails("run", copy, PROMPT, says=says)


def load_as_float(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}
