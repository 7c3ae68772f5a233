"""Traces of language models: what an engine computed, stage by stage, to be compared and diagnosed by the program `plumb`.

    with plumb.capture(model) as trace:      # a transformers or mlx-lm model, as it is
        model(ids)
    trace.write("mine.trace")                # then: plumb diagnose mine.trace --model FOLDER

torch, transformers and mlx are imported only when a model of theirs is captured.
"""

from plumb.capture import capture
from plumb.differences import Difference, known_differences
from plumb.readers import read_llama_cpp, read_sglang
from plumb.trace import Step, Trace, TraceError

__all__ = ["Difference", "Step", "Trace", "TraceError", "capture", "known_differences", "read_llama_cpp", "read_sglang"]
__version__ = "0.1.0"
