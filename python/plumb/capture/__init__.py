"""plumb.capture: a model's forward passes as a Trace, without editing the model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from plumb.capture.recorder import Chooser, Recorder, checkpoint_config
from plumb.trace import Trace


@contextlib.contextmanager
def capture(
    model: Any,
    *,
    stages: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    token_ids: Sequence[int] | None = None,
    prompt: str | None = None,
    rendered: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Iterator[Trace]:
    """Captures what a transformers or mlx-lm model computes while the block runs.

    Each call of the model becomes a step of the trace, its stages under the names of docs/trace-format.md. Not a bit of what
    the model computes changes; afterwards the model is as it was. What cannot be seen is listed in the trace's `not_observed`,
    with the reason.

    stages, layers: only the stages that match one of these patterns (`*` is anything), only these layers; None: all.
    token_ids: the prompt's ids, where the first call does not feed all of them (a prompt in chunks). Ids that later calls feed
    were generated.
    prompt, rendered: the text as given and after the chat template, for the description.
    checkpoint: the model's folder, whose config.json the trace holds; transformers knows it by itself.

    The values are held in memory. TypeError for a model that is of neither library; TraceError when the model is called with
    more than one sequence, or with values that have not the shapes that are known of its stages."""
    trace = Trace(prompt=prompt, rendered=rendered)
    recorder = Recorder(trace, Chooser(stages, layers), token_ids)
    watcher = _watcher(model, recorder)
    watcher.describe(trace)
    if checkpoint is not None:
        trace.model |= {"name": os.fspath(checkpoint), "config": checkpoint_config(checkpoint) or {}}
    with contextlib.ExitStack() as undo:
        undo.callback(watcher.remove)
        watcher.install()
        yield trace


def _watcher(model: Any, recorder: Recorder) -> Any:
    bases = {base.__module__.partition(".")[0] for base in type(model).__mro__}
    if "transformers" in bases:
        from plumb.capture.transformers_model import TransformersCapture

        return TransformersCapture(model, recorder)
    if "mlx" in bases:
        from plumb.capture.mlx_model import MlxCapture

        return MlxCapture(model, recorder)
    raise TypeError(f"{type(model).__module__}.{type(model).__name__} is neither a transformers nor an mlx-lm model")
