"""The references are the versions that python/requirements-test.txt pins: another version is another oracle."""

import importlib.metadata
import pathlib
import re

import pytest

REQUIREMENTS = pathlib.Path(__file__).parents[2] / "python" / "requirements-test.txt"
PINS = re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)$", REQUIREMENTS.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("package", "version"), PINS)
def test_pinned_version(package, version):
    found = importlib.metadata.version(package)
    assert found.split("+")[0] == version  # torch's CPU build is 2.13.0+cpu


def test_every_requirement_is_pinned():
    requirements = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(PINS) == len(requirements) > 0
