"""The scripts of bench/ that write the documents' tables: what they measure, in which order, and what they say of it."""
import importlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BENCH = REPOSITORY / "bench"
# Stands for a llama-bench whose speed is known; notes each run.
PEER = """#!{python}
import json, sys
a = sys.argv
open({log!r}, "a").write("peer\\n")
value = lambda flag: int(a[a.index(flag) + 1])
rows = [(value("-p"), 0, 100.0), (0, value("-n"), 10.0)]
print(json.dumps([{{"n_prompt": p, "n_gen": n, "avg_ts": rate}} for p, n, rate in rows]))
"""
# Runs the program under test, noting it, and answers with twice the peer's speed for prompts and half for generation.
OURS = """#!{python}
import json, subprocess, sys
done = subprocess.run([{binary!r}, *sys.argv[1:]], capture_output=True)
report = json.loads(done.stdout)
for row in report["rows"]:
    row["tokens_per_second"] = 5.0 if row["generate"] else 200.0
if report["rows"]:
    open({log!r}, "a").write("plumb\\n")
print(json.dumps(report))
"""


def program(path, text, **values):
    path.write_text(text.format(python=sys.executable, **{name: str(value) for name, value in values.items()}))
    path.chmod(0o755)
    return path


@pytest.fixture
def model(tmp_path):
    subprocess.run([sys.executable, BENCH / "make_shapes.py", tmp_path, "--shapes", "tiny-qwen3", "--types", "Q8_0"], check=True)
    return tmp_path / "tiny-qwen3-Q8_0.gguf"


def test_versus_alternates_and_prints_ratios(plumb_binary, model, tmp_path):
    log, document = tmp_path / "log", tmp_path / "performance.md"
    kept = "<!-- measured by bench/versus.py against llama.cpp -->\nanother peer's\n<!-- end of what was measured against llama.cpp -->\n"
    document.write_text("before\n" + kept + "<!-- measured by bench/versus.py against a peer -->\nold\n"
                        "<!-- end of what was measured against a peer -->\nafter\n")
    ours, peer = program(tmp_path / "ours", OURS, binary=plumb_binary, log=log), program(tmp_path / "peer", PEER, log=log)
    done = subprocess.run([sys.executable, BENCH / "versus.py", ours, peer, model, "-p", "16", "-n", "4", "--pairs", "2",
                           "--peer-name", "a peer", "--into", document], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert log.read_text().split() == ["plumb", "peer", "peer", "plumb"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("| tiny-qwen3-Q8_0")]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert [row[2:5] for row in rows] == [["pp16", "2.00 (2.00 to 2.00)", "int8"], ["tg4", "0.50 (0.50 to 0.50)", "memory"]]
    text = document.read_text()
    assert text.startswith("before\n" + kept) and text.endswith("after\n") and "old" not in text and done.stdout in text


def test_numerics_ranks_the_modes(plumb_binary, model):
    done = subprocess.run([sys.executable, BENCH / "numerics.py", plumb_binary, model, "--prompts", "1", "--tokens", "40",
                           "--threads", "1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| tiny-qwen3-Q8_0")]
    rows = {line.split("|")[2].strip(): line.split("|") for line in lines}
    divergence = {name: float(cells[3]) for name, cells in rows.items()}
    assert divergence["reference, fp32"] < 1e-9 and divergence["cpu, exact"] < 1e-9
    assert 1e-9 < divergence["cpu, auto"] < 1e-2
    assert rows["cpu, exact"][5].strip() == "100.0 %"
    assert "Positions compared: tiny-qwen3-Q8_0 40." in done.stdout


def test_numerics_computes_what_it_says(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    numerics = importlib.import_module("numerics")
    p, q = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]), np.array([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
    mean, largest, equal, _ = numerics.compare(np.log(p) + 3, np.log(q) - 5)
    expected = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert largest == pytest.approx(expected) and mean == pytest.approx(expected / 2) and equal == 0.5
    distance = numerics.compare(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]]))[3]
    assert distance == pytest.approx(0.1)
