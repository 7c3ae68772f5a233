"""fp32 results do not depend on how the prompt was cut or on how many threads computed them, to the bit."""
import checkpoints
import numpy as np
import pytest

CHUNKS = (1, 3, 7)


@pytest.mark.parametrize("name", checkpoints.names())
def test_chunks_and_threads(plumb, parity, name):
    ids = checkpoints.golden(name)["long"].ids
    folder = checkpoints.folder(name)
    whole = plumb.logits_file(folder, ids, chunk=len(ids), threads=1).read_bytes()
    variants = [(chunk, threads) for chunk in (*CHUNKS, len(ids)) for threads in (1, 2)]
    different = [
        f"chunk {chunk}, {threads} threads"
        for chunk, threads in variants
        if plumb.logits_file(folder, ids, chunk=chunk, threads=threads).read_bytes() != whole
    ]
    if plumb.logits_file(folder, ids).read_bytes() != whole:
        different.append("the defaults")
    for form in checkpoints.config_forms(name):
        parity.record(name, form, splits="identical" if not different else f"{len(different)} differ")
    assert not different


@pytest.mark.parametrize("name", checkpoints.names())
def test_decode_is_prefill(plumb, name):
    """Greedy tokens, each from a step of one, are the tops of one pass over the whole."""
    prompt = checkpoints.golden(name)["chat"]
    folder = checkpoints.folder(name)
    ids = plumb.greedy(folder, prompt.ids, 24, chunk=3, threads=2)
    fed = plumb.logits(folder, np.concatenate([prompt.ids, ids[:-1]]), threads=1)
    assert prompt.step_rows(fed).argmax(axis=-1).tolist() == ids
