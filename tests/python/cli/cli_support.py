"""What the tests of the command line share: where the models are, and what a command answered."""
import json
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
DEMO = REPOSITORY / "models" / "demo"
MODEL = REPOSITORY / "tests" / "data" / "checkpoints" / "qwen3"
PROMPT = "The capital of France is"
TIMEOUT_SECONDS = 120


class Answer:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout.decode()  # strict: everything printed is UTF-8
        self.err = done.stderr.decode()

    def json(self):
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
