"""plumb bench: every form of its output, and the bytes and products that it holds a model's speed against."""
import csv
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import gguf
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHAPE = {"layers": 2, "hidden": 256, "ffn": 256, "vocab": 1024, "experts": 8, "chosen": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    script = REPOSITORY / "bench" / "make_shapes.py"
    subprocess.run([sys.executable, script, folder, "--shapes", "tiny-olmoe", "--types", "Q4_K_M"], check=True)
    return folder / "tiny-olmoe-Q4_K_M.gguf"


def measure(plumb, *arguments):
    return json.loads(plumb.call("bench", *arguments, "-o", "json"))


def step_bytes(path, sequences):
    """Of a step of so many sequences: a row of the embedding for each, the experts that they choose, everything else once."""
    bytes_of_step = 0
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name == "token_embd.weight":
            share = sequences / SHAPE["vocab"]
        elif "_exps" in tensor.name:
            share = 1 - (1 - SHAPE["chosen"] / SHAPE["experts"]) ** sequences
        else:
            share = 1
        bytes_of_step += share * tensor.n_bytes
    return bytes_of_step


@pytest.mark.parametrize("sequences", [1, 3])
def test_the_bytes_of_a_step_are_those_that_must_be_read(plumb, model, sequences):
    row = measure(plumb, model, "-p", 0, "-n", 2, "-b", sequences, "-r", 1, "--no-ceilings")["rows"][0]
    assert row["test"] == ("tg2" if sequences == 1 else "tg2, 3 sequences")
    steps_per_second = row["tokens_per_second"] / sequences
    assert row["memory"]["per_second"] / steps_per_second == pytest.approx(step_bytes(model, sequences), rel=1e-9)


def test_the_products_of_a_prompt_are_those_of_its_weights(plumb, model):
    row = measure(plumb, model, "-p", 10, "-n", 0, "-r", 1, "--no-ceilings")["rows"][0]
    hidden, ffn = SHAPE["hidden"], SHAPE["ffn"]
    layer = 4 * hidden * hidden + hidden * SHAPE["experts"] + SHAPE["chosen"] * 3 * hidden * ffn
    products = 2 * (10 * SHAPE["layers"] * layer + hidden * SHAPE["vocab"])
    assert row["products"]["per_second"] / (row["tokens_per_second"] / 10) == pytest.approx(products, rel=1e-9)
    assert row["weights"] == "Q4_K" and row["products"]["of"] == "int8"
    assert row["bytes"] == sum(tensor.n_bytes for tensor in gguf.GGUFReader(model).tensors)


def test_each_combination_is_a_row_and_each_repetition_a_sample(plumb, model):
    report = measure(plumb, model, "-p", "4,0", "-n", "2", "-b", "1,2", "-d", "0,3", "-t", "1,2", "-r", 2, "--executor", "cpu")
    tests = ["pp4", "tg2", "pp4 @ d3", "tg2 @ d3"]
    tests += [f"{test}, 2 sequences" for test in tests]
    assert [(row["threads"], row["test"]) for row in report["rows"]] == [(t, test) for t in (1, 2) for test in tests]
    for row in report["rows"]:
        assert len(row["samples"]) == 2 and row["lowest"] <= row["tokens_per_second"] <= row["highest"]
    assert all(row["path"].startswith("cpu executor") for row in report["rows"])
    assert {row["threads"] for row in report["ceilings"]} == {1, 2}
    assert all(row["memory"]["share"] > 0 for row in report["rows"] if row["generate"])


def test_csv_and_the_table_have_the_same_rows(plumb, model):
    arguments = ("bench", model, "-p", "4", "-n", "2", "-r", "1", "--no-ceilings")
    rows = list(csv.DictReader(io.StringIO(plumb.call(*arguments, "-o", "csv").decode())))
    assert [(row["prompt"], row["generate"]) for row in rows] == [("4", "0"), ("0", "2")]
    assert all(float(row["tokens_per_second"]) > 0 and None not in row for row in rows)
    table = plumb.call(*arguments).decode().splitlines()
    assert [line.split("|")[6].strip() for line in table[2:4]] == ["pp4", "tg2"]


def test_without_a_model_it_measures_the_machine(plumb):
    report = measure(plumb, "-r", 1)
    assert report["rows"] == [] and 1 in {row["threads"] for row in report["ceilings"]}
    assert all(row["median"] > 0 for row in report["ceilings"]) and len(report["ceilings"]) % 5 == 0


@pytest.mark.parametrize("arguments, expected", [
    (["-p", "4,"], "--prompt must be whole numbers"), (["-b", "0"], "--batch must be"),
    (["-o", "xml"], "there are md, json and csv"), (["none.gguf"], "no such file")])
def test_errors_are_one_sentence(plumb_binary, arguments, expected):
    done = subprocess.run([plumb_binary, "bench", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_resident_memory_is_never_more_than_the_file_and_15_percent(plumb, tmp_path, kind):
    """The most that is ever resident, while weights are packed too, without what a process has for no model: weights that lie
    twice, in the file's pages and in panels, would be twice the file."""
    script = REPOSITORY / "bench" / "make_shapes.py"
    subprocess.run([sys.executable, script, tmp_path, "--shapes", "qwen3-0.6b", "--types", kind], check=True, stdout=subprocess.DEVNULL)
    file = tmp_path / f"qwen3-0.6b-{kind}.gguf"
    arguments = [plumb.binary, "bench", file, "--executor", "cpu", "-p", "16", "-n", "4", "-r", "1", "-t", "2", "--no-ceilings"]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    text = child.stdout.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    size = file.stat().st_size
    file.unlink()
    assert status == 0
    assert usage.ru_maxrss * 1024 <= 1.15 * size, f"{usage.ru_maxrss * 1024 / size:.3f} of {size} bytes\n{text}"
    of_weights = r"([01]\.\d\d) \(([01]\.\d\d) its own, ([01]\.\d\d) of mapped files\)"
    resident = re.search(rf"resident memory {of_weights} times the weights at the first token, {of_weights} at the end", text)
    assert resident, text
    first, own, _, end, own_at_the_end, mapped_at_the_end = map(float, resident.groups())
    assert first <= 1.1 and own <= 0.2, "the first token does not wait for weights to be laid out"
    assert 0.95 <= end <= 1.15 and own_at_the_end >= 0.95 and mapped_at_the_end <= 0.1, "at the end they lie in panels, and not in the file's pages"
