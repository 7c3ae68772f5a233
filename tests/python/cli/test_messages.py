"""What the command line says about files and words that are not what they should be: which file, once, and in time."""
import json
import shutil
import subprocess

import checkpoints
import pytest
from cli_support import DEMO


def plumb(binary, *arguments):
    return subprocess.run(
        [binary, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )


def copy(name, folder, file="config.json", **changes):
    """A checkpoint with another configuration; the weights are the same file."""
    folder.mkdir()
    for path in checkpoints.folder(name).iterdir():
        if path.name == "model.safetensors":
            (folder / path.name).symlink_to(path)
        elif path.is_file():
            shutil.copyfile(path, folder / path.name)
    changed = folder / file
    changed.write_text(json.dumps(json.loads(changed.read_text()) | changes))
    return folder


@pytest.mark.parametrize("name, file, changes, says", [
    ("qwen3", "config.json", {"layer_types": ["full_attention"] * 3 + ["chunked_attention"]}, 'names "chunked_attention"'),
    ("qwen3", "config.json", {"rms_norm_eps": -1e-6}, '"rms_norm_eps" is negative'),
    ("qwen3", "config.json", {"rope_parameters": {"rope_type": "magic"}}, 'rope_type "magic" is not known'),
    ("qwen3", "config.json", {"hidden_act": "magic"}, 'hidden_act "magic" is not known'),
    ("qwen3", "generation_config.json", {"eos_token_id": -5}, '"eos_token_id" is -5'),
    ("qwen3_moe", "config.json", {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
    ("deepseek_v4", "config.json", {"swiglu_limit": -1}, "limited to -1"),
    ("deepseek_v4", "config.json", {"scoring_func": "magic"}, 'scoring_func "magic" is not known'),
])  # fmt: skip
def test_the_file_at_fault_is_named_once(plumb_binary, tmp_path, name, file, changes, says):
    folder = copy(name, tmp_path / "model", file, **changes)
    done = plumb(plumb_binary, "run", folder, "--ids", "1,2,3")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"plumb: {folder / file}: ") and done.stderr.count(str(folder)) == 1
    assert says in done.stderr and done.stderr.count("\n") == 1


def test_a_file_that_is_no_model(plumb_binary):
    done = plumb(plumb_binary, "run", DEMO / "tokenizer.json", "Hello")
    assert done.returncode == 1 and "is no model" in done.stderr


def test_a_mistyped_path_is_not_silently_a_prompt(plumb_binary):
    assert "there is no file or folder models/dmo" in plumb(plumb_binary, "run", "models/dmo", "--max-tokens", 1).stderr
    for prompt in ("one/two is a half", "half"):
        assert "note" not in plumb(plumb_binary, "run", prompt, "--max-tokens", 1).stderr


def test_a_prompt_that_is_too_long_is_said_before_it_is_computed(plumb_binary):
    positions = json.loads((DEMO / "config.json").read_text())["max_position_embeddings"]
    ids = ",".join(["324"] * (positions + 1))
    said = plumb(plumb_binary, "run", DEMO, "--ids", ids, "--max-tokens", 1).stderr
    assert said.startswith(f"plumb: note: {positions + 1} tokens are more than the {positions} positions")
    assert said.count("note") == 1
    assert "note" in plumb(plumb_binary, "logits", DEMO, "--ids", ids, "--top", 1).stderr


@pytest.mark.parametrize("arguments", [[], ["--magic"], ["nowhere.trace", "--model", DEMO], ["nowhere.trace"]])
def test_diagnose_answers_2_where_it_could_not_answer(plumb_binary, arguments):
    done = plumb(plumb_binary, "diagnose", *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--magic"], ["nowhere.trace", "nor-here.trace"]])
def test_compare_answers_2_where_it_could_not_answer(plumb_binary, arguments):
    done = plumb(plumb_binary, "compare", *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_show_lists_what_is_skipped(plumb_binary, shared_fixtures):
    folder = shared_fixtures / "published" / "qwen3_5"
    text = plumb(plumb_binary, "show", folder).stdout
    skipped = {t["name"] for t in json.loads(plumb(plumb_binary, "show", folder, "--json").stdout)["skipped"]}
    assert {name.split(".")[0] for name in skipped} == {"model", "mtp"}
    assert all(name in text.split("Skipped")[1] for name in ("model.visual.patch_embed.proj.weight", "mtp.norm.weight"))
    assert "Skipped" not in plumb(plumb_binary, "show", DEMO).stdout
