"""plumb.Trace: what one engine computed in one run, as docs/trace-format.md has it on disk, in NumPy."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors

from plumb import _numbers

FORMAT = "plumb-trace/1"
DTYPES = ("float64", "float32", "bfloat16", "float16")
_MANIFEST, _TENSORS, _INDEX = "manifest.json", "tensors.safetensors", "tensors.safetensors.index.json"
_PARTIAL = "partial.safetensors"
# Without a token axis: what holds at the end of a step.
_STEP_STAGES = re.compile(r".*\.(linear\.state|attn\.compressed(_\w+)?|attn\.index_entries(_\w+)?)(\.positions)?")
# One row for each token all the same: what the blocks of the two lists are made of.
_TOKEN_STAGES = re.compile(r".*\.(attn\.compressed|attn\.index_entries)_(kv|gate)")
_LARGEST_ID, _LARGEST_POSITION = 2**31 - 1, 2**40


class TraceError(ValueError):
    """A trace that the format does not allow; the message is one sentence: where, what, the value, the limit."""


@dataclass(frozen=True)
class Step:
    """One forward pass: positions first … first + count - 1."""

    first: int
    count: int


def has_token_axis(stage: str) -> bool:
    """Whether a stage's first axis is the tokens of its step; a recurrent state and a compressed list have none."""
    return _STEP_STAGES.fullmatch(stage) is None or _TOKEN_STAGES.fullmatch(stage) is not None


class Trace:
    """One run of one engine: its description (the attributes, as in manifest.json) and a value for each step and stage.

    >>> trace = plumb.Trace(engine={"name": "mine", "version": "1"}, dtype="float32", token_ids=[5, 3])
    >>> trace.add_step(count=2)
    >>> trace.add("embed", np.zeros((2, 64), np.float32))
    >>> trace.write("mine.trace")

    A value is looked up by step and stage, `trace[0, "embed"]`, or by its stored name, `trace["0/embed"]`. The first axis is
    the token axis. NumPy has neither bfloat16 nor 8-bit floats: they come as float32, exactly; `stored_dtype` tells what they
    were. `not_observed` says what the engine computes that this trace does not hold: {"stage": a name or pattern, "why": a
    sentence}. `partial` holds the (step, stage) of which only some values are known, NaN standing for the others: they are
    stored in a file of their own, partial.safetensors, which no other program takes for whole values. `extra` holds the
    manifest's other keys, which are kept."""

    def __init__(
        self,
        *,
        engine: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        prompt: str | None = None,
        rendered: str | None = None,
        token_ids: Sequence[int] = (),
        generated: Sequence[int] = (),
        sampler: Mapping[str, Any] | None = None,
        stop_ids: Sequence[int] | None = None,
        not_observed: Sequence[Mapping[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine = dict(engine or {})
        self.model = dict(model or {})
        self.dtype = dtype
        self.prompt, self.rendered = prompt, rendered
        self.token_ids, self.generated = [int(i) for i in token_ids], [int(i) for i in generated]
        self.sampler = None if sampler is None else dict(sampler)
        self.stop_ids = None if stop_ids is None else [int(i) for i in stop_ids]
        self.steps: list[Step] = []
        self.stages: list[str] = []
        self.not_observed = [dict(entry) for entry in not_observed]
        self.extra = dict(extra or {})
        self.partial: set[tuple[int, str]] = set()
        self._stored: dict[tuple[int, str], tuple[str, np.ndarray]] = {}

    # What is in it.

    def __contains__(self, key: object) -> bool:
        try:
            return _key(key) in self._stored
        except TraceError:
            return False

    def __getitem__(self, key: str | tuple[int, str]) -> np.ndarray:
        """The value of a step and stage. KeyError when it was not captured."""
        dtype, bits = self._stored[_key(key)]
        return _numbers.values_of(bits, dtype)

    def __iter__(self) -> Iterator[str]:
        return (f"{step}/{stage}" for step, stage in self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __repr__(self) -> str:
        steps = ", ".join(f"{step.first}+{step.count}" for step in self.steps[:4]) + (", …" if len(self.steps) > 4 else "")
        name = self.engine.get("name", "?")
        return f"<Trace of {name}: {len(self.stages)} stages, {len(self.steps)} steps ({steps}), {self.dtype}>"

    def stored_dtype(self, key: str | tuple[int, str]) -> str:
        """The number type in which the engine held a value: "BF16", "F32", "I32", …"""
        return self._stored[_key(key)][0]

    def bits(self, key: str | tuple[int, str]) -> np.ndarray:
        """A value as it is stored; bfloat16 as uint16."""
        return self._stored[_key(key)][1]

    def fed_ids(self, step: int) -> list[int]:
        """The token ids that a step fed; empty where the trace does not hold them all."""
        start = sum(s.count for s in self.steps[:step])
        ids = (self.token_ids + self.generated)[start : start + self.steps[step].count]
        return ids if len(ids) == self.steps[step].count else []

    # Filling it.

    def add_step(self, count: int, first: int | None = None) -> int:
        """Begins a forward pass of `count` tokens, from where the last one ended unless `first` says otherwise; its index."""
        if first is None:
            first = self.steps[-1].first + self.steps[-1].count if self.steps else 0
        if count < 1 or first < 0 or max(count, first) > _LARGEST_POSITION:
            raise TraceError(f"a step of {count} tokens from position {first}: count is at least 1, first at least 0")
        self.steps.append(Step(int(first), int(count)))
        return len(self.steps) - 1

    def add(
        self,
        stage: str,
        values: np.ndarray | Sequence[Any],
        *,
        step: int | None = None,
        dtype: str | None = None,
        partial: bool = False,
    ) -> None:
        """Stores a stage's value, [tokens, …] of the last step or of the one that is named. `dtype` ("bfloat16") says how the
        engine held it where the array's own type does not; bfloat16 is rounded to nearest even. `partial`: NaN stands for
        values that are not known. TraceError for a step that has not begun, a name that is no stage's, a value that is there
        already, and numbers that do not fit."""
        if step is None:
            step = len(self.steps) - 1
        if not 0 <= step < len(self.steps):
            raise TraceError(f"{stage}: step {step} has not begun, there are {len(self.steps)}")
        array = np.asarray(values)
        try:
            name = _numbers.dtype_of(array) if dtype is None else _numbers.dtype_name(dtype)
            bits = _numbers.bits_of(array, name)
        except ValueError as error:
            raise TraceError(f"{step}/{stage}: {error}") from None
        self._put(step, stage, name, bits)
        if partial:
            self.partial.add((step, stage))

    def add_bits(self, stage: str, bits: np.ndarray, dtype: str, *, step: int | None = None) -> None:
        """As add(), with the stored bits: uint16 for bfloat16, the values themselves for native types."""
        step = len(self.steps) - 1 if step is None else step
        name = _numbers.dtype_name(dtype)
        if not 0 <= step < len(self.steps) or bits.dtype.newbyteorder("<") != _numbers.storage_of(name):
            raise TraceError(f"{step}/{stage}: {bits.dtype} are no bits of {name}, or the step has not begun")
        self._put(step, stage, name, np.ascontiguousarray(bits))

    def _put(self, step: int, stage: str, dtype: str, bits: np.ndarray) -> None:
        if not re.fullmatch(r"[^\s/\x00]+", stage):
            raise TraceError(f"{stage!r} is no name of a stage: it is empty or has a space or a slash")
        if (step, stage) in self._stored:
            raise TraceError(f"{step}/{stage} is there already")
        if stage not in self.stages:
            self.stages.append(stage)
        self._stored[step, stage] = (dtype, bits)

    # What is wrong with it.

    def problems(self) -> list[str]:
        """What departs from the format without making the trace unreadable, a sentence each: a first axis that is not the
        step's token count (logits of the last token alone, padding), steps that feed more ids than there are, values that are
        not finite where a masked score cannot be the reason."""
        found = []
        fed = sum(step.count for step in self.steps)
        known = len(self.token_ids) + len(self.generated)
        if fed > known:
            found.append(f"the steps feed {fed} tokens, token_ids and generated hold {known}")
        for (step, stage), (dtype, bits) in self._stored.items():
            count = self.steps[step].count
            if has_token_axis(stage) and (bits.ndim == 0 or bits.shape[0] != count):
                found.append(f"{step}/{stage}: the shape is {list(bits.shape)}, the step has {count} tokens")
            if dtype[0] != "F" and dtype != "BF16" or stage.endswith(".scores") or (step, stage) in self.partial:
                continue
            odd = int(np.size(bits) - np.count_nonzero(np.isfinite(_numbers.values_of(bits, dtype))))
            if odd:
                found.append(f"{step}/{stage}: {odd} of {np.size(bits)} values are not finite")
        return found

    # On disk.

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Trace:
        """Reads NAME.trace, whoever wrote it. TraceError for what the format forbids, OSError for what cannot be opened."""
        folder = pathlib.Path(folder)
        where = folder / _MANIFEST
        try:
            manifest = json.loads(where.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TraceError(f"{where}: is not JSON: {error}") from None
        trace = _from_manifest(manifest, where)
        for file in _tensor_files(folder):
            for name, dtype, bits in _read_tensors(file):
                step, stage = _key(name, where=file)
                if step >= len(trace.steps):
                    raise TraceError(f"{file}: {name}: there is no step {step}, the manifest has {len(trace.steps)}")
                trace._put(step, stage, dtype, bits)
                if file.name == _PARTIAL:
                    trace.partial.add((step, stage))
        order = {stage: place for place, stage in enumerate(trace.stages)}  # safetensors has an order of its own
        trace._stored = dict(sorted(trace._stored.items(), key=lambda item: (item[0][0], order[item[0][1]])))
        return trace

    def write(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes the folder NAME.trace, under a temporary name first. FileExistsError when it is there; with `force` a trace is
        replaced, and nothing else."""
        folder = pathlib.Path(os.path.abspath(folder))
        manifest = self._manifest()
        _from_manifest(manifest, folder / _MANIFEST)  # the same checks as at reading
        if folder.exists() or folder.is_symlink():
            if not force:
                raise FileExistsError(f"{folder} is there already; force=True replaces it")
            _check_replaceable(folder)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (temporary / _MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            self._write_tensors(temporary / _TENSORS, [key for key in self._stored if key not in self.partial])
            if self.partial:
                self._write_tensors(temporary / _PARTIAL, [key for key in self._stored if key in self.partial])
            temporary.chmod(0o777 & ~_umask())
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write_tensors(self, file: pathlib.Path, keys: list[tuple[int, str]]) -> None:
        specs = {}
        for step, stage in keys:
            dtype, bits = self._stored[step, stage]
            specs[f"{step}/{stage}"] = safetensors.TensorSpec(
                dtype=_numbers.safetensors_writer_name(dtype),
                shape=list(bits.shape),
                data_ptr=bits.ctypes.data,
                data_len=bits.nbytes,
            )
        safetensors.serialize_file(specs, str(file))  # self._stored keeps the arrays alive until here

    def _manifest(self) -> dict[str, Any]:
        own = {
            "format": FORMAT,
            "engine": self.engine,
            "model": self.model,
            "dtype": self.dtype,
            "prompt": self.prompt,
            "rendered": self.rendered,
            "token_ids": self.token_ids,
            "generated": self.generated,
            "sampler": self.sampler,
            "stop_ids": self.stop_ids,
            "steps": [{"first": step.first, "count": step.count} for step in self.steps],
            "stages": [
                stage
                for stage in self.stages
                if any((n, stage) not in self.partial for n in range(len(self.steps)) if (n, stage) in self)
            ],
            "not_observed": self.not_observed,
        }
        twice = sorted(set(own) & set(self.extra))
        if twice:
            raise TraceError(f"extra holds {twice}, which are attributes of the trace")
        if own["dtype"] is None:
            del own["dtype"]
        return own | self.extra


def _key(key: object, where: object = "a trace") -> tuple[int, str]:
    if isinstance(key, tuple) and len(key) == 2:
        return int(key[0]), str(key[1])
    found = re.fullmatch(r"(0|[1-9]\d{0,8})/(\S+)", key) if isinstance(key, str) else None
    if not found:
        raise TraceError(f"{where}: {key!r} is not STEP/STAGE")
    return int(found[1]), found[2]


def _from_manifest(manifest: Any, where: pathlib.Path) -> Trace:
    def bad(what: str) -> TraceError:
        return TraceError(f"{where}: {what}")

    if not isinstance(manifest, dict):
        raise bad("is not a JSON object")
    if manifest.get("format") != FORMAT:
        raise bad(f"format is {str(manifest.get('format'))[:40]!r}, only {FORMAT!r} is known")
    for key in ("token_ids", "steps"):
        if key not in manifest:
            raise bad(f"{key} is missing")

    def typed(key: str, *types: type) -> Any:
        value = manifest.get(key)
        if value is not None and not isinstance(value, types):
            raise bad(f"{key} is {json.dumps(value)[:40]}, not {' or '.join(t.__name__ for t in types)}")
        return value

    def ids(key: str) -> list[int] | None:
        value = typed(key, list)
        for i in value or []:
            if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i <= _LARGEST_ID:
                raise bad(f"{key} holds {json.dumps(i)[:40]}, an id is an integer from 0 to {_LARGEST_ID}")
        return value

    if manifest.get("dtype") is not None and manifest["dtype"] not in DTYPES:
        raise bad(f"dtype is {json.dumps(manifest['dtype'])[:40]}, known are {', '.join(DTYPES)}")
    trace = Trace(
        engine=typed("engine", dict),
        model=typed("model", dict),
        dtype=manifest.get("dtype"),
        prompt=typed("prompt", str),
        rendered=typed("rendered", str),
        token_ids=ids("token_ids") or [],
        generated=ids("generated") or [],
        sampler=typed("sampler", dict),
        stop_ids=ids("stop_ids"),
        not_observed=_notes(typed("not_observed", list)),
    )
    for number, step in enumerate(typed("steps", list) or []):
        first, count = (step.get(key) if isinstance(step, dict) else None for key in ("first", "count"))
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (first, count))
        if not whole or first < 0 or count < 1 or max(first, count) > _LARGEST_POSITION:
            raise bad(f"step {number} needs integers first (0 or more) and count (1 or more)")
        trace.steps.append(Step(first, count))
    trace.stages = [stage for stage in typed("stages", list) or [] if isinstance(stage, str)]
    known = {
        "format",
        "engine",
        "model",
        "dtype",
        "prompt",
        "rendered",
        "token_ids",
        "generated",
        "sampler",
        "stop_ids",
        "steps",
        "stages",
        "not_observed",
    }
    trace.extra = {key: value for key, value in manifest.items() if key not in known}
    return trace


def _notes(entries: list[Any] | None) -> list[dict[str, str]]:
    """not_observed as this package writes it, or a plain list of stages."""
    return [entry if isinstance(entry, dict) else {"stage": str(entry), "why": ""} for entry in entries or []]


def _tensor_files(folder: pathlib.Path) -> list[pathlib.Path]:
    partial = [folder / _PARTIAL] if (folder / _PARTIAL).exists() else []
    if (folder / _TENSORS).exists():
        return [folder / _TENSORS, *partial]
    index = folder / _INDEX
    if not index.exists():
        raise TraceError(f"{folder}: neither {_TENSORS} nor {_INDEX} is there")
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        raise TraceError(f"{index}: is no index of safetensors files") from None
    if any(not isinstance(name, str) or pathlib.Path(name).name != name for name in names):
        raise TraceError(f"{index}: names a file outside of the trace")
    return [folder / name for name in sorted(names)] + partial


def _read_tensors(file: pathlib.Path) -> Iterator[tuple[str, str, np.ndarray]]:
    try:
        entries = safetensors.deserialize(file.read_bytes())
    except safetensors.SafetensorError as error:
        raise TraceError(f"{file}: {error}") from None
    for name, entry in entries:
        dtype = entry["dtype"]
        if dtype not in _numbers.NATIVE and dtype not in _numbers.WIDENED:
            raise TraceError(f"{file}: {name}: the number type {dtype} is not known")
        yield name, dtype, np.frombuffer(entry["data"], dtype=_numbers.storage_of(dtype)).reshape(entry["shape"])


def _check_replaceable(folder: pathlib.Path) -> None:
    """As `plumb trace --force`: only what is a trace and nothing more is replaced."""
    if folder.is_symlink() or not folder.is_dir():
        raise FileExistsError(f"{folder} is no folder of a trace")
    odd = [
        entry.name
        for entry in folder.iterdir()
        if entry.name not in (_MANIFEST, _TENSORS, _INDEX, _PARTIAL)
        and not re.fullmatch(r"tensors-\d{5}-of-\d{5}\.safetensors", entry.name)
    ]
    if odd or not (folder / _MANIFEST).exists():
        raise FileExistsError(f"{folder} is no trace{': it holds ' + odd[0] if odd else ''}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
