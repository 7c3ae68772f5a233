"""Fixtures that all Python tests share: the program under test, the data, and the table of what was measured."""
import os
import pathlib

import checkpoints
import live_seed
import pytest
from parity_table import DOCUMENT, ParityTable
from plumb_cli import Plumb

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARED_FIXTURES = REPOSITORY.parent / "shared" / "fixtures"
_TABLE = pytest.StashKey[ParityTable]()
_NOT_RUN = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption("--write-parity-doc", action="store_true", help="store the measured table in docs/parity.md")


def pytest_configure(config):
    config.stash[_TABLE] = ParityTable(live_seed.SEED)
    config.stash[_NOT_RUN] = []


def pytest_report_header():
    return f"live models: seed {live_seed.SEED} (PLUMB_LIVE_SEED={live_seed.SEED} repeats them)"


@pytest.fixture(scope="session")
def parity(pytestconfig):
    return pytestconfig.stash[_TABLE]


@pytest.fixture(scope="session")
def plumb_binary():
    path = pathlib.Path(os.environ.get("PLUMB_BINARY", REPOSITORY / "build" / "release" / "plumb"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not there: build it (make), or name another in PLUMB_BINARY", pytrace=False)
    return path.resolve()


@pytest.fixture
def plumb(plumb_binary, tmp_path):
    return Plumb(plumb_binary, tmp_path)


@pytest.fixture
def shared_fixtures(request):
    """Data that lies beside the repository and is not ours to ship. Where it is missing the test has not run, which the
    summary says; continuous integration has it, so there its absence is a failure."""
    if SHARED_FIXTURES.is_dir():
        return SHARED_FIXTURES
    if os.environ.get("CI"):
        pytest.fail(f"CI is set and {SHARED_FIXTURES} is missing", pytrace=False)
    request.config.stash[_NOT_RUN].append(request.node.nodeid)
    pytest.skip(f"NOT RUN: {SHARED_FIXTURES} is missing")


def pytest_collection_finish(session):
    # An empty parametrisation would pass in silence.
    if not checkpoints.names():
        pytest.exit(f"{checkpoints.CHECKPOINTS} holds no checkpoint: the clone is incomplete", returncode=1)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    table = config.stash[_TABLE]
    if table.markdown():
        terminalreporter.section("measured against transformers")
        terminalreporter.write_line(table.markdown())
    for test in config.stash[_NOT_RUN]:
        terminalreporter.write_line(f"NOT RUN, {SHARED_FIXTURES} is missing: {test}", red=True)
    if config.getoption("write_parity_doc"):
        _write_document(terminalreporter, exitstatus, table)


def _write_document(terminalreporter, exitstatus, table):
    gaps = table.missing(checkpoints.names_and_forms())
    if exitstatus != 0:
        terminalreporter.write_line(f"{DOCUMENT} not written: a test failed", red=True)
    elif gaps:
        terminalreporter.write_line(f"{DOCUMENT} not written, not measured in this run: {'; '.join(gaps)}", red=True)
    else:
        table.write()
        terminalreporter.write_line(f"{DOCUMENT} written")
