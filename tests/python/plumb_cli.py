"""The program under test as the tests drive it: through its command line, as a person does."""
import itertools
import json
import pathlib
import subprocess
from dataclasses import dataclass, field

import numpy as np
from safetensors.numpy import load_file

TIMEOUT_SECONDS = 300


@dataclass
class Plumb:
    binary: pathlib.Path
    scratch: pathlib.Path
    _counter: itertools.count = field(default_factory=itertools.count)

    def call(self, *arguments):
        """Runs the program; its standard output. A non-zero exit fails the test with what it said, and so does a configuration
        key that it did not understand: no model of these tests has one."""
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, stdin=subprocess.DEVNULL)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(command)}\nexit {done.returncode}: {said}"
        assert "read by no stage" not in said, said
        return done.stdout

    def logits(self, model, ids, **options):
        """float32 [n, vocab]: the logits at every position of `ids`."""
        return load_file(self.logits_file(model, ids, **options))["logits"]

    def logits_file(self, model, ids, **options):
        """The file that `plumb logits --save` writes, checked for what every caller relies on."""
        saved = self._scratch_file("logits.safetensors")
        self.call("logits", model, "--ids-file", self._ids_file(ids), "--save", saved, *_flags(options))
        content = load_file(saved)
        assert sorted(content) == ["ids", "logits"]
        assert content["ids"].dtype == np.int32 and content["ids"].tolist() == list(map(int, ids))
        assert content["logits"].dtype == np.float32 and content["logits"].shape[0] == len(ids)
        assert np.isfinite(content["logits"]).all()
        return saved

    def greedy(self, model, ids, steps, **options):
        """The ids of `steps` greedy tokens after `ids`; stop tokens do not stop it."""
        answer = self.run(model, "--ids-file", self._ids_file(ids), "--ignore-eos", "--max-tokens", steps, **options)
        assert answer["prompt_ids"] == list(map(int, ids))
        assert answer["finish_reason"] == "length"
        assert len(answer["ids"]) == steps
        return answer["ids"]

    def run(self, model, *arguments, **options):
        """What `plumb run --json` prints."""
        return json.loads(self.call("run", model, *arguments, "--json", *_flags(options)))

    def write_config(self, config):
        """A file for --config."""
        path = self._scratch_file("config.json")
        path.write_text(json.dumps(config))
        return path

    def _ids_file(self, ids):
        path = self._scratch_file("ids.txt")
        path.write_text(",".join(str(int(i)) for i in ids))
        return path

    def _scratch_file(self, name):
        return self.scratch / f"{next(self._counter)}-{name}"


def _flags(options):
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
