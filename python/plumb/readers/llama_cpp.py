"""The text that llama.cpp's llama-eval-callback prints (common/debug.cpp, common_debug_print_tensor): each tensor of the graph
with its name, operation and shape, its values to four decimals, and of each axis longer than six only the first and the last
three."""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumb.trace import Trace, TraceError

_SHOWN = 3  # of each end
_HEADER = re.compile(
    r"(?:common_debug_cb_eval|ggml_debug):\s+(?P<name>.*?) = \((?P<type>\w+)\)\s+"
    r"(?P<op>\w+)\((?P<sources>.*)\) = \{(?P<ne>[\d, ]+)\}\s*$"
)
_SOURCE = re.compile(r"([^{},]+)\{[\d, ]+\}")
_COUNT = re.compile(r"number of input tokens = (\d+)\s*$")
_ID = re.compile(r"^(?:[\d.]+ [A-Z]\s)?\s*(\d+)\s*$")
_HEAD_STAGES = ("attn.q", "attn.k", "attn.v", "attn.q_norm", "attn.k_norm", "attn.context")

# llama.cpp's names (src/models/*.cpp and llama-graph.cpp: cb(tensor, name, layer)) under those of docs/trace-format.md. Where a
# tensor keeps its name through several operations, the operation decides.
_STAGES = {
    "attn_norm": "attn.norm",
    "Qcur_normed": "attn.q_norm",
    "Kcur_normed": "attn.k_norm",
    "kq_soft_max": "attn.probs",
    "kqv_out": "attn.context",
    "attn_out": "attn.out",
    "attn_post_norm": "attn.post_norm",
    "ffn_inp": "attn.residual",
    "ffn_norm": "mlp.norm",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_swiglu": "mlp.act",
    "ffn_geglu": "mlp.act",
    "ffn_gate_par": "mlp.act",
    "ffn_out": "mlp.out",
    "ffn_post_norm": "mlp.post_norm",
    "l_out": "residual",
    "ffn_moe_logits": "moe.logits",
    "ffn_moe_probs": "moe.probs",
    "ffn_moe_topk": "moe.ids",
    "ffn_moe_weights": "moe.weights",
    "ffn_moe_weights_norm": "moe.weights",
    "ffn_moe_weights_scaled": "moe.weights",
    "ffn_moe_weights_softmax": "moe.weights",
    "ffn_moe_out": "moe.routed",
    "ffn_shexp": "moe.shared",
    "Vcur": "attn.v",
}
_WHOLE = {"embd": "embed", "inp_embd": "embed", "inp_scaled": "embed", "result_norm": "norm", "result_output": "logits"}
_OUTPUT_WEIGHT = re.compile(r"blk\.(\d+)\.attn_output\.weight")


@dataclass
class _Printed:
    name: str
    operation: str
    sources: list[str]
    values: np.ndarray  # float32 in NumPy's order of axes; NaN where nothing was printed


def read_llama_cpp(source: str | os.PathLike[str] | Iterable[str], *, token_ids: Sequence[int] | None = None) -> Trace:
    """Reads the output of llama-eval-callback, standard output and error together: a path, or its lines.

    Stages come under the names of docs/trace-format.md, float32, as far as they were printed: four decimals, and of each axis
    longer than six the first and the last three (whole where tools/llama-cpp/eval_callback.cpp printed them). What was not printed is NaN, and the stage is in the trace's `partial`:
    Trace.write puts it into a file of its own, so that no program takes it for a whole value; plumb.known_differences compares
    it. `not_observed` says how much there is. Keys of attention past the prompt (the cache is padded) are left out. llama.cpp
    computes the last layer's end for the last
    token only: those stages have one row. Channels of queries and keys are in the order of the file: in Llama's GGUF files
    rotated pairs are neighbours.

    token_ids: the ids that were fed, where the output does not hold them (it does unless logging was off).
    TraceError for what is no such output, with the line; OSError for a path that cannot be opened."""
    lines = _lines(source)
    printed, ids, cut = _parse(lines)
    if token_ids is not None:
        ids = [int(i) for i in token_ids]
    if not printed:
        raise TraceError(
            'the output holds no tensor: lines such as "common_debug_cb_eval:  embd = (f32) GET_ROWS(…) = {…}" are missing'
        )
    trace = Trace(engine={"name": "llama.cpp", "settings": {"read_from": "llama-eval-callback"}}, dtype="float32")
    for forward_pass in _passes(printed):
        _add_pass(trace, forward_pass)
    if not ids:
        raise TraceError('the output does not hold the ids ("number of input tokens"): give them as token_ids')
    trace.token_ids, trace.generated = ids[: trace.steps[0].count], ids[trace.steps[0].count :]
    _note_partial(trace)
    if cut:
        trace.not_observed.append({"stage": "*", "why": f"the output ends inside of {cut}: nothing after it is there"})
    return trace


def _lines(source: Any) -> Iterator[str]:
    if isinstance(source, (str, os.PathLike)):
        return iter(pathlib.Path(source).read_text(encoding="utf-8", errors="replace").splitlines())
    return iter(source)


def _parse(lines: Iterator[str]) -> tuple[list[_Printed], list[int], str]:
    """The tensors, the token ids, and the name of the tensor in which the output breaks off (llama.cpp's log loses its end at
    times)."""
    printed, ids, expected = [], [], 0
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        if expected and (token := _ID.match(line)):
            ids.append(int(token[1]))
            expected -= 1
        elif count := _COUNT.search(line):
            expected, ids = int(count[1]), []
        elif header := _HEADER.search(line):
            ne = [int(n) for n in header["ne"].split(",")]
            if len(ne) != 4 or min(ne) < 0:
                raise TraceError(f"line {number}: {line.strip()[:80]!r} has no four sizes")
            if header["type"] in ("f32", "f16", "bf16", "i32", "i64", "i16", "i8") and min(ne) > 0:
                sources = [name.strip(" ,") for name in _SOURCE.findall(header["sources"])]
                values = _values(numbered, number, ne)
                if values is None:
                    return printed, ids, header["name"].strip()
                printed.append(_Printed(header["name"].strip(), header["op"], sources, values))
    return printed, ids, ""


def _values(numbered: Iterator[tuple[int, str]], start: int, ne: list[int]) -> np.ndarray | None:
    """The numbers that follow a header until its "sum", put where they belong: the fourth axis is printed whole. None where the
    lines end."""
    found: list[float] = []
    whole = False
    for number, line in numbered:
        if line.strip().startswith("sum"):
            if whole := len(found) >= _shown_count(ne):
                break
            continue  # one sum for each entry of the fourth axis
        if (row := re.match(r"^\s*\[\s*(.*\S)\s+\],?\s*$", line)) is None:
            continue
        try:
            found += [float(value) for value in row[1].split(",") if value.strip() not in ("", "...")]
        except ValueError:
            raise TraceError(f"line {number}: {line.strip()[:60]!r} are no numbers") from None
    if not whole:
        return None
    if len(found) == math.prod(ne):  # printed by tools/llama-cpp/eval_callback.cpp, or short
        return np.array(found, np.float32).reshape(ne[::-1])
    axes = [_indices(n) for n in ne[:3]] + [list(range(ne[3]))]
    if len(found) != _shown_count(ne):
        raise TraceError(f"line {start}: {len(found)} values follow, {_shown_count(ne)} are printed of a tensor of {ne}")
    values = np.full(ne[::-1], np.nan, np.float32)
    values[np.ix_(*reversed(axes))] = np.array(found, np.float32).reshape([len(axis) for axis in reversed(axes)])
    return values


def _indices(n: int) -> list[int]:
    return list(range(n)) if n <= 2 * _SHOWN else [*range(_SHOWN), *range(n - _SHOWN, n)]


def _shown_count(ne: list[int]) -> int:
    return int(np.prod([len(_indices(n)) for n in ne[:3]] + [ne[3]]))


def _passes(printed: list[_Printed]) -> Iterator[list[_Printed]]:
    """Each forward pass begins with the embedding."""
    current: list[_Printed] = []
    for tensor in printed:
        if tensor.name in ("embd", "inp_embd") and current:
            yield current
            current = []
        current.append(tensor)
    yield current


def _add_pass(trace: Trace, printed: list[_Printed]) -> None:
    tokens = printed[0].values.shape[-2]
    step = trace.add_step(tokens)
    first = trace.steps[step].first
    found: dict[str, np.ndarray] = {}
    heads: dict[str, int] = {}  # of "layers.N.q" and "layers.N.k", as the rotation has them
    for tensor in printed:
        stage = _stage_of(tensor)
        if stage is None:
            continue
        values = tensor.values[0]  # [n2, n1, n0]
        if stage.endswith((".q_rope", ".k_rope")):
            heads[stage.removesuffix("_rope")] = values.shape[1]
        elif stage.endswith("attn.probs"):  # [heads, tokens, keys]
            values = values.transpose(1, 0, 2)[:, :, : first + tokens]
        elif stage.endswith(".moe.weights"):
            values = values.reshape(values.shape[0], -1)
        elif values.shape[0] == 1:
            values = values[0]
        found[stage] = values
    for stage, values in found.items():
        prefix, _, name = stage.rpartition("attn.")
        if f"attn.{name}" in _HEAD_STAGES and values.ndim == 2:
            count = heads.get(f"{prefix}attn.{'q' if name in ('q', 'q_norm', 'context') else 'k'}")
            values = values.reshape(len(values), count, -1) if count else values
        if stage.endswith("moe.routed") and stage.replace("moe.routed", "moe.shared") not in found:
            stage = stage.replace("moe.routed", "mlp.out")
        whole = not np.isnan(values).any()
        if whole and stage.endswith(".ids"):
            values = values.astype(np.int32)
        trace.add(stage, values, step=step, partial=not whole)


def _stage_of(tensor: _Printed) -> str | None:
    if tensor.name in _WHOLE:
        return _WHOLE[tensor.name]
    if tensor.operation == "MUL_MAT" and tensor.sources and (weight := _OUTPUT_WEIGHT.fullmatch(tensor.sources[0])):
        return f"layers.{weight[1]}.attn.out"  # llama.cpp gives it no name of its own
    named = re.fullmatch(r"(\w+)-(\d+)", tensor.name)
    if named is None:
        return None
    name, prefix = named[1], f"layers.{named[2]}."
    if name in ("Qcur", "Kcur"):
        side = "q" if name == "Qcur" else "k"
        return prefix + (f"attn.{side}_rope" if tensor.operation.startswith("ROPE") else f"attn.{side}")
    return prefix + _STAGES[name] if name in _STAGES else None


def _note_partial(trace: Trace) -> None:
    noted = set()
    for step, stage in sorted(trace.partial):
        name = re.sub(r"^layers\.\d+\.", "layers.*.", stage)
        if name in noted:
            continue
        noted.add(name)
        values = trace[step, stage]
        trace.not_observed.append(
            {
                "stage": name,
                "why": f"printed in part, to four decimals: {int(np.isfinite(values).sum())} of {values.size} values "
                f"of {step}/{stage}",
            }
        )
