"""plumb diagnose on traces of a suspect engine with planted faults: ../shared/fixtures/traces and what verdicts.json says of each.

The traces lie only in ../shared: without it the test says that it did not run, and fails where CI is set.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT.parent / "shared" / "fixtures"
VERDICTS = json.loads((FIXTURES / "traces/verdicts.json").read_text()) if (FIXTURES / "traces").is_dir() else {}
BINARY = Path(os.environ.get("PLUMB_BINARY", ROOT / "build/release/plumb"))


def diagnose(trace: Path, model: Path) -> tuple[int, dict]:
    """The exit code and the parsed report of `plumb diagnose --json`."""
    run = subprocess.run([BINARY, "diagnose", trace, "--model", model, "--json"], capture_output=True, text=True, timeout=300)
    assert run.returncode in (0, 1), run.stderr
    return run.returncode, json.loads(run.stdout)


def test_fixtures_are_there():
    if VERDICTS:
        return
    message = f"NOT RUN: {FIXTURES}/traces is not there, so no planted fault was diagnosed"
    assert not os.environ.get("CI"), message
    print(message)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_planted_fault_is_named(name):
    wanted = VERDICTS[name]
    code, report = diagnose(FIXTURES / "traces" / f"{name}.trace", FIXTURES / "checkpoints" / wanted["checkpoint"])
    assert report["verdict"] == wanted["verdict"], report["summary"]
    assert code == (0 if wanted["verdict"] == "benign" else 1)
    if wanted["verdict"] == "benign":
        assert report["findings"] == []
        return
    rows = {row for finding in report["findings"] for row in [finding["row"], *finding["also"]] if row}
    if wanted["rows"]:
        expected = {row for row in wanted["rows"] if row != "v4"}
        v4 = "v4" in wanted["rows"] and any(row.isdigit() and int(row) >= 61 for row in rows)
        assert (expected <= rows) if wanted["all_rows"] else (v4 or expected & rows), report["summary"]
    else:
        assert not rows
    if wanted["stage"]:
        assert any(re.fullmatch(wanted["stage"], finding["stage"]) for finding in report["findings"]), report["summary"]
    if wanted["verdict"] == "fault":
        assert all(finding["proved"] for finding in report["findings"] if finding["row"]), report["findings"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen3_moe", "olmoe", "mixtral", "qwen3_5", "gemma2", "gemma3", "gpt_oss"])
def test_transformers_itself_raises_no_alarm(name, dtype):
    trace = FIXTURES / "checkpoints" / name / "golden" / f"{dtype}.trace"
    if not trace.is_dir():
        assert not os.environ.get("CI"), f"{trace} is not there"
        print(f"NOT RUN: {trace} is not there")
        return
    code, report = diagnose(trace, FIXTURES / "checkpoints" / name)
    assert (code, report["verdict"], report["findings"]) == (0, "benign", []), report["summary"]
