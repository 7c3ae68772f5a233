"""The demonstration model in hf-bf16 gives every answer that it was taught: the whole path from text to text.

666 generations of up to a dozen tokens; the program starts in milliseconds, so each is a process of its own, two at a time.
"""
import concurrent.futures
import json

import checkpoints

MODEL = "demo-qwen3"
ANSWER_TOKENS = 40  # what a chat answer may take until its stop token
COMPLETION_TOKENS = 8  # " 144." takes five
PROCESSES = 2


def questions():
    """(prompt, flags, what the answer must be, whether more may follow it)."""
    facts = json.loads((checkpoints.folder(MODEL) / "facts.json").read_text())
    for fact in facts["completions"]:
        yield fact["prompt"], ["--max-tokens", COMPLETION_TOKENS], fact["expect"], True
    for fact in facts["chat"]:
        prompt = f"<|im_start|>user\n{fact['question']}<|im_end|>\n<|im_start|>assistant\n"
        yield prompt, ["--max-tokens", ANSWER_TOKENS, "--parse-special"], fact["answer"], False


def test_every_fact(plumb, parity):
    def ask(question):
        prompt, flags, expected, more_may_follow = question
        answer = plumb.run(checkpoints.folder(MODEL), prompt, *flags, precision="hf-bf16", threads=1)
        text, reason = answer["text"], answer["finish_reason"]
        right = text.startswith(expected) if more_may_follow else (text, reason) == (expected, "stop")
        return None if right else f"{prompt!r}: {text!r} ({reason}), not {expected!r}"

    asked = list(questions())
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        wrong = [mistake for mistake in pool.map(ask, asked) if mistake]
    parity.record(MODEL, "config.json", facts=f"{len(asked) - len(wrong)}/{len(asked)}")
    assert len(asked) == 666
    assert not wrong, "\n".join(wrong[:20])
