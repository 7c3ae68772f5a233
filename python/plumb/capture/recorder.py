"""What both captures share: where a forward pass begins and ends, what belongs into the trace, and what was not seen."""

from __future__ import annotations

import fnmatch
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from plumb.capture.stages import Form, Sizes
from plumb.trace import Trace, TraceError


class Chooser:
    """Which stages are captured: name patterns with *, layers by number; None: all."""

    def __init__(self, stages: Iterable[str] | None, layers: Iterable[int] | None) -> None:
        if isinstance(stages, str):
            raise TypeError(f"stages is a list of patterns, not the text {stages!r}")
        self._patterns = None if stages is None else [re.compile(fnmatch.translate(pattern)) for pattern in stages]
        self._layers = None if layers is None else set(layers)

    def layer(self, number: int) -> bool:
        return self._layers is None or number in self._layers

    def __call__(self, stage: str) -> bool:
        return self._patterns is None or any(pattern.match(stage) for pattern in self._patterns)


class Recorder:
    """Fills a trace. Values outside of a forward pass are none of it: a module that is called by itself."""

    def __init__(self, trace: Trace, chosen: Chooser, prompt_ids: Sequence[int] | None) -> None:
        self.trace, self.chosen = trace, chosen
        self._fed: list[int] = []
        self._prompt = None if prompt_ids is None else [int(i) for i in prompt_ids]
        self.running = False

    def announce_prompt(self, ids: Sequence[int]) -> None:
        """The prompt of a generation that is about to begin, where the engine tells."""
        if self._prompt is None and not self.trace.steps:
            self._prompt = [int(i) for i in ids]

    def begin(self, ids: np.ndarray, first: int) -> None:
        """A forward pass over ids [batch, tokens] from position `first` on."""
        if ids.ndim != 2 or ids.shape[0] != 1 or ids.shape[1] == 0:
            raise TraceError(f"the model is called with ids of shape {list(ids.shape)}; a trace holds one sequence, [1, tokens]")
        self._fed += [int(i) for i in ids[0]]
        self.trace.add_step(int(ids.shape[1]), first)
        self.running = True
        prompt = self._prompt if self._prompt is not None else self._fed[: self.trace.steps[0].count]
        self.trace.token_ids = list(prompt)
        known = len(self.trace.generated)
        self.trace.generated += self._fed[len(prompt) + known :]

    def end(self) -> None:
        self.running = False

    @property
    def tokens(self) -> int:
        return self.trace.steps[-1].count

    def record(self, stage: str, bits: np.ndarray, dtype: str, form: Form, sizes: Sizes) -> None:
        """The last value wins where a module runs twice in a pass; values that do not have the form that is known of the stage
        are an error, never a silent transposition."""
        try:
            shaped = np.ascontiguousarray(form(bits, sizes))
        except ValueError:
            raise TraceError(f"{stage}: the shape {list(bits.shape)} is not what is known of this stage with {sizes}") from None
        if stage.endswith((".ids", ".selected")) and dtype != "I32":
            shaped, dtype = shaped.astype(np.int32), "I32"
        self.trace._stored.pop((len(self.trace.steps) - 1, stage), None)
        self.trace.add_bits(stage, shaped, dtype)

    def note_missing(self, expected: dict[str, str], layers: int) -> None:
        """Fills not_observed: the stages that this model computes (by name, the layers' as "layers.N.…") and the trace lacks,
        with the reason. One entry for all layers that lack the same stage."""
        seen = set(self.trace.stages)
        missing: dict[tuple[str, str], list[int]] = {}
        for stage, why in expected.items():
            if stage in seen or not self.chosen(stage):
                continue
            layer = re.match(r"layers\.(\d+)\.", stage)
            if layer and not self.chosen.layer(int(layer[1])):
                continue
            name = stage[layer.end() :] if layer else stage
            missing.setdefault((name, why), []).append(int(layer[1]) if layer else -1)
        for (name, why), numbers in missing.items():
            if numbers == [-1]:
                self._note(name, why)
            elif len(numbers) == layers:
                self._note(f"layers.*.{name}", why)
            else:
                for number in numbers:
                    self._note(f"layers.{number}.{name}", why)

    def _note(self, stage: str, why: str) -> None:
        self.trace.not_observed.append({"stage": stage, "why": why})


def checkpoint_config(folder: str | os.PathLike[str] | None) -> dict[str, Any] | None:
    """The config.json of a checkpoint's folder; None where there is none."""
    path = pathlib.Path(folder or "", "config.json")
    if not folder or not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def jsonable(value: Any) -> Any:
    """A configuration's values as JSON has them."""
    return json.loads(json.dumps(value, default=str))
