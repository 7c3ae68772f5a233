"""The diagnosis against itself, and docs/diagnosis.md against what came out: causes planted in our own executor, alone and in pairs, must be
named at their own stage; what no catalogue has is unexplained; a right run raises no alarm, whatever its precision and however it was fed.
PLUMB_UPDATE_DOCS=1 writes the page's matrix anew."""

import os

import diagnosis_matrix
import pytest


@pytest.fixture(scope="module")
def matrix(plumb_binary):
    tool = plumb_binary.parent / "tests" / "diagnose_matrix_tool"
    assert tool.exists(), f"{tool} is not built"
    found = diagnosis_matrix.Matrix(diagnosis_matrix.runs(tool, diagnosis_matrix.SAMPLE))
    print(found.text())
    return found


def test_causes_are_named_at_their_stage(matrix):
    assert len(matrix.of("singles")) >= 16 * len(diagnosis_matrix.CHECKPOINTS)
    assert matrix.share("singles", "named") >= 0.95, matrix.missed()
    assert matrix.share("singles", "at_stage") >= 0.95, matrix.missed()


def test_pairs_are_named(matrix):
    assert len(matrix.of("pairs")) >= 5 * len(diagnosis_matrix.CHECKPOINTS)
    assert matrix.share("pairs", "named") >= 0.8 and matrix.share("pairs", "at_stage") >= 0.8, matrix.missed()


def test_what_no_catalogue_has_is_unexplained(matrix):
    """Ten on each checkpoint, each first seen at the stage that it changes."""
    assert len(matrix.of("unknown")) >= 10 * len(diagnosis_matrix.CHECKPOINTS)
    assert matrix.share("unknown", "named") == matrix.share("unknown", "at_stage") == 1, matrix.missed()


def test_right_runs_raise_no_alarm(matrix):
    runs = matrix.of("right")
    assert len(runs) >= 18 * len(diagnosis_matrix.CHECKPOINTS) and not matrix.alarms(), matrix.alarms()


def test_the_page_holds_the_matrix(matrix):
    if os.environ.get("PLUMB_UPDATE_DOCS"):
        diagnosis_matrix.write(matrix.text())
    assert diagnosis_matrix.written() == matrix.text(), "PLUMB_UPDATE_DOCS=1 writes the page anew"
