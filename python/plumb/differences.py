"""Where two traces differ, as far as both are known: for values that were printed in part (plumb.read_llama_cpp), which the
program `plumb compare` does not take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumb.trace import Trace, TraceError


@dataclass(frozen=True)
class Difference:
    """One stage of one step. relative: L2 of the difference over L2 of the reference, over the `known` of `of` values; largest:
    the largest absolute difference, at the index `place` of the suspect's array."""

    step: int
    stage: str
    known: int
    of: int
    relative: float
    largest: float
    place: tuple[int, ...]


def known_differences(suspect: Trace, reference: Trace) -> list[Difference]:
    """The stages that both traces hold, in the suspect's order of execution, compared where the suspect's values are known (not
    NaN).

    A suspect's stage with fewer rows than the step has tokens is compared with the reference's last rows, one with fewer keys
    with the last keys. TraceError for shapes that fit in no such way, and for runs of other token ids."""
    if suspect.token_ids != reference.token_ids:
        raise TraceError(f"the suspect's {len(suspect.token_ids)} prompt ids are not the reference's {len(reference.token_ids)}")
    found = []
    for key in suspect:
        step, stage = int(key.partition("/")[0]), key.partition("/")[2]
        if (step, stage) not in reference:
            continue
        ours, theirs = suspect[step, stage].astype(np.float64), reference[step, stage].astype(np.float64)
        if ours.ndim == theirs.ndim and ours.shape != theirs.shape:
            theirs = theirs[tuple(slice(max(0, n - m), None) for m, n in zip(ours.shape, theirs.shape))]
        if ours.size == theirs.size:
            theirs = theirs.reshape(ours.shape)
        if ours.shape != theirs.shape:
            raise TraceError(f"{key}: the shape is {list(ours.shape)}, the reference's {list(reference[step, stage].shape)}")
        found.append(_difference(step, stage, ours, theirs))
    return found


def _difference(step: int, stage: str, ours: np.ndarray, theirs: np.ndarray) -> Difference:
    known = ~np.isnan(ours) & np.isfinite(theirs)
    apart = np.where(known, np.abs(np.where(known, ours, 0) - np.where(known, theirs, 0)), -1)
    count = int(known.sum())
    if count == 0:
        return Difference(step, stage, 0, ours.size, float("nan"), float("nan"), ())
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    length = np.linalg.norm(theirs[known])
    relative = float(np.linalg.norm(apart[known]) / length) if length > 0 else float(apart.max() > 0)
    return Difference(step, stage, count, ours.size, relative, float(apart.max()), tuple(int(i) for i in place))
