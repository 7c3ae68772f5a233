"""partial_rotary_factor, where the reference heeds it and where it rotates whole heads whatever the key says."""
import json
import shutil
import subprocess

import pytest
from checkpoints import REPOSITORY
from criteria import prompt_distance
from live_reference import Reference

IDS = list(range(5, 29))
DATA = REPOSITORY / "tests" / "data"


def changed(folder, name, **rope):
    shutil.copytree(DATA / name, folder, ignore=shutil.ignore_patterns("golden"))
    config = json.loads((folder / "config.json").read_text())
    parameters = {"rope_theta": 10000.0} | rope
    config["rope_parameters"] = parameters
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("name", "heeded"), [("checkpoints/qwen3", False), ("checkpoints/qwen2", False), ("checkpoints/olmoe", False),
                                              ("variants/phi3", True), ("variants/glm4", True)])
def test_as_the_reference_does(plumb, plumb_binary, tmp_path, name, heeded):
    folder = changed(tmp_path / "model", name, rope_type="default", partial_rotary_factor=0.5)
    logits = plumb.logits(folder, IDS)
    assert prompt_distance(logits, Reference.load(folder).logits(IDS)) < 2e-6
    whole = plumb.logits(changed(tmp_path / "whole", name, rope_type="default", partial_rotary_factor=1.0), IDS)
    assert (prompt_distance(logits, whole) > 1e-2) == heeded
    done = subprocess.run([plumb_binary, "run", folder, "--ids", "5,6,7", "--max-tokens", "1"], capture_output=True, text=True)
    assert ("partial_rotary_factor is 0.5" in done.stderr) != heeded, done.stderr


def test_scaled_tables_that_do_not_fit_the_heads(plumb_binary, tmp_path):
    folder = changed(tmp_path / "model", "checkpoints/qwen3", rope_type="linear", factor=2.0, partial_rotary_factor=0.5)
    with pytest.raises(RuntimeError):
        Reference.load(folder).logits(IDS)
    done = subprocess.run([plumb_binary, "run", folder, "--ids", "5,6,7"], capture_output=True, text=True)
    assert done.returncode == 1 and 'rotates whole heads: its tables of type "linear" do not fit them' in done.stderr, done.stderr
