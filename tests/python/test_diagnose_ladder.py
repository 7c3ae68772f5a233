"""The ladder of plumb diagnose: each rung has a verdict of its own, and says what it saw or why it saw nothing."""

import json

import checkpoints
import pytest
import torch
from diagnoses import IDS, captured, diagnose, diagnose_text, fault, write
from safetensors.torch import load_file, save_file

RUNGS = ["prompt", "token ids", "positions", "weights", "embedding", "stages", "state across steps", "logits", "sampler", "stop"]
FOLDER = checkpoints.folder("qwen3")


def ladder(report):
    assert [rung["rung"] for rung in report["rungs"]] == RUNGS
    return {rung["rung"]: (rung["verdict"], rung["why"]) for rung in report["rungs"]}


def verdicts(report):
    return {name: verdict for name, (verdict, _) in ladder(report).items()}


@pytest.fixture(scope="module")
def right():
    return captured("qwen3", steps=2)


def edited(trace, folder, change):
    """The trace as written, with what `change` makes of its tensors."""
    out = write(trace, folder / "edited.trace")
    save_file(change(load_file(out / "tensors.safetensors")), out / "tensors.safetensors")
    return out


def judge_folder(plumb_binary, folder):
    return diagnose(plumb_binary, folder, FOLDER)[1]


def judge(plumb_binary, trace, folder, name="qwen3"):
    _, report = diagnose(plumb_binary, write(trace, folder / "a.trace"), checkpoints.folder(name))
    return report


def test_a_right_run(plumb_binary, right, tmp_path):
    report = judge(plumb_binary, right, tmp_path)
    seen = ladder(report)
    for rung in ("positions", "weights", "embedding", "stages", "state across steps", "logits", "sampler"):
        assert seen[rung][0] == "ok", (rung, seen[rung])
    assert seen["prompt"] == ("not observed", "the trace has no prompt")
    assert "46 of 46 tensors" in seen["weights"][1]
    assert "prompt: the trace has no prompt" in report["not_observed"]
    text = diagnose_text(plumb_binary, tmp_path / "a.trace", FOLDER)
    for rung in RUNGS:
        assert any(line.split(seen[rung][0])[0].strip() == rung for line in text.splitlines() if line.startswith("  ")), rung


def test_faults_stand_on_their_rungs(plumb_binary, tmp_path):
    for name, planted, rung in (
        ("qwen3", fault("QK-norm eps"), "stages"),
        ("gemma2", fault("embedding not scaled"), "embedding"),
        ("gemma2", fault("logits' cap missing"), "logits"),
        ("llama", fault("output projection transposed"), "weights"),
    ):
        seen = verdicts(judge(plumb_binary, captured(name, planted), tmp_path, name))
        assert seen[rung] == "fault", (name, planted.name, seen)
        for other in ("embedding", "logits", "weights"):
            assert other == rung or seen[other] == "ok", (name, planted.name, seen)


def test_what_goes_wrong_between_passes_is_the_state(plumb_binary, right, tmp_path):
    """The later passes see keys of another sequence: what was kept between them is wrong, the first pass is right."""
    other = captured("qwen3", ids=[*IDS[:5], IDS[5] + 1, *IDS[6:]], steps=2)
    wrong = load_file(write(other, tmp_path / "other.trace") / "tensors.safetensors")

    def mix(tensors):
        return {name: wrong[name] if name.endswith("attn.context") and name[0] != "0" else value for name, value in tensors.items()}

    seen = ladder(judge_folder(plumb_binary, edited(right, tmp_path, mix)))
    assert seen["state across steps"][0] == "fault" and seen["stages"][0] == "ok", seen


def test_one_pass_shows_no_state(plumb_binary, tmp_path):
    seen = ladder(judge(plumb_binary, captured("qwen3", steps=0), tmp_path))
    assert seen["state across steps"] == ("not observed", "the trace has one pass alone")


def test_only_logits(plumb_binary, right, tmp_path):
    out = edited(right, tmp_path, lambda tensors: {name: value for name, value in tensors.items() if name.endswith("/logits")})
    seen = verdicts(judge_folder(plumb_binary, out))
    assert seen["stages"] == seen["embedding"] == seen["state across steps"] == "not observed" and seen["logits"] == "ok"
    assert seen["weights"] == seen["positions"] == "ok"  # logits need all of them


def manifest_with(plumb_binary, right, folder, **keys):
    out = write(right, folder / "a.trace")
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | keys))
    return diagnose(plumb_binary, out, FOLDER)[1]


def test_prompt_and_ids(plumb_binary, right, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    prompt = tokenizer.decode(IDS, skip_special_tokens=False)
    if tokenizer.encode(prompt).ids == IDS:
        seen = ladder(manifest_with(plumb_binary, right, tmp_path, prompt=prompt))
        assert seen["token ids"][0] == "ok" and seen["prompt"][0] == "not observed"
    report = manifest_with(plumb_binary, right, tmp_path, prompt="Hello there", rendered=f"<chat>Goodbye{prompt}")
    assert verdicts(report)["prompt"] == "fault" and report["verdict"] == "tokens"
    assert [f["row"] for f in report["findings"] if f["stage"] == "prompt"] == ["5"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("<|im_start|>assistant\n", None),
        ("<|im_start|>assistant\n<think>\n", None),
        ("<|im_start|>assistant", "line break is lost"),
        ("", "add_generation_prompt"),
    ],
)
def test_what_the_chat_template_says_of_every_prompt(plumb_binary, right, tmp_path, end, words):
    rendered = f"<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nHello there<|im_end|>\n{end}"
    report = manifest_with(plumb_binary, right, tmp_path, prompt="Hello there ", rendered=rendered)
    seen = ladder(report)["prompt"]
    if words is None:
        assert seen[0] == "not observed" and "begins an answer as the checkpoint's chat template does" in seen[1]
    else:
        found = [f for f in report["findings"] if f["stage"] == "prompt"]
        assert [(f["row"], f["expected"]) for f in found] == [("5", "<|im_start|>assistant\n")] and words in found[0]["cause"]
        assert seen[0] == "fault" and report["verdict"] == "tokens"


def with_positions(trace, folder, offset, keep=lambda name: True):
    """With the positions captured, `offset` of the place, beside what is kept."""

    def add(tensors):
        places = {
            f"{index}/positions": torch.tensor([p + offset(p) for p in range(step.first, step.first + step.count)], dtype=torch.int32)
            for index, step in enumerate(trace.steps)
        }
        return {name: value for name, value in tensors.items() if keep(name)} | places

    return edited(trace, folder, add)


def test_right_positions(plumb_binary, right, tmp_path):
    report = judge_folder(plumb_binary, with_positions(right, tmp_path, lambda p: 0))
    assert report["findings"] == [] and ladder(report)["positions"] == ("ok", "the 34 positions captured are their tokens' own")


def test_positions_that_are_all_shifted_are_harmless(plumb_binary, right, tmp_path):
    """Attention sees differences of positions alone: row 36, and no output changes. Without the rotated queries and keys, which stand
    elsewhere in such an engine."""
    for offset in (1, 7):
        out = with_positions(right, tmp_path, lambda p: offset, lambda name: not name.endswith("_rope"))
        report = judge_folder(plumb_binary, out)
        assert (report["verdict"], verdicts(report)["positions"]) == ("benign", "ok"), report["summary"]
        assert [(f["row"], f["found"], f["harmless"]) for f in report["findings"]] == [("36", offset, True)]


def test_positions_that_leave_a_gap(plumb_binary, right, tmp_path):
    out = with_positions(right, tmp_path, lambda p: 3 if p >= 20 else 0, lambda name: name.endswith("/embed"))
    report = judge_folder(plumb_binary, out)
    assert verdicts(report)["positions"] == "fault" and report["verdict"] == "fault", report["summary"]
    assert (report["findings"][0]["row"], report["findings"][0]["expected"], report["findings"][0]["found"]) == ("36", 20, 23)
