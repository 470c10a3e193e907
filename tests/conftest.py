import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lethe.testing  # noqa: F401  # it registers the toy suites
import strategies
from bench import cli
from bench.plan import Request
from bench.runner import Options, Outcome, carry_out
from suites.errors import UserError

SLOW_CHECKS = {"again", "convolutions", "device", "forgets", "learns", "texts", "twice"}

TRANSFORMER_METHODS = {name for name in strategies.names() if strategies.get(name).tunes}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow the longest checks of the contract and the tests with real data."""
    for item in items:
        case = vars(item)["callspec"].params if "callspec" in vars(item) else {}
        contract = vars(item).get("originalname") == "test_every_method_meets_the_contract"
        slow = contract and (case["check"] in SLOW_CHECKS or case["target"] in TRANSFORMER_METHODS)
        if slow or "real_data" in vars(item).get("fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Use one thread: test processes run in parallel, and more threads than cores are six times as slow."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a cache that is deleted afterwards; parallel test processes share it, as a user's processes do."""
    own = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
        patch.setenv("LETHE_CACHE", str(shared / "cache"))
        yield


@pytest.fixture(autouse=True)
def no_mirror(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the real data from tests that do not ask for it."""
    if "real_data" not in request.fixturenames:
        monkeypatch.setenv("LETHE_DATA", "")  # so that what a test's --data sets is undone, too
        monkeypatch.delenv("LETHE_DATA")


@pytest.fixture
def real_data() -> str:
    """Return the folder of the local mirror; skip the test if there is none."""
    folder = os.environ.get("LETHE_DATA")
    if not folder:
        pytest.skip("needs the real data sets: set LETHE_DATA to a folder with their files")
    return folder


def ran(folder: Path, *requests: Request, **options: Any) -> Outcome:
    """Run requests in this process without printing."""
    usual = {"jobs": 1, "quiet": True, "checkpoint_every": 0}
    return carry_out(requests, folder, Options(**usual | options), "test")


Command = Callable[..., tuple[int, str, str]]
Refuses = Callable[..., None]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``lethe`` in this process, which has the toy suites: a line split at spaces and whole words."""

    def run(line: str, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()  # discard earlier output
        monkeypatch.setattr(sys, "argv", ["lethe", *line.split(), *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def refuses(command: Command) -> Refuses:
    """Assert that a command exits with 2 and prints one line of error that contains a text."""

    def check(says: str, line: str, *words: str) -> None:
        code, _, err = command(line, *words)
        assert (code, err[:7], err.count("\n")) == (2, "lethe: ", 1), err
        assert says in err

    return check


def refused(says: str, act: Callable[..., object], *args: Any, **named: Any) -> None:
    """Assert that a call raises a UserError of one line that matches a regular expression."""
    with pytest.raises(UserError, match=says) as caught:
        act(*args, **named)
    assert "\n" not in str(caught.value)


def process(line: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``lethe`` as a user does, in a new process, which takes seconds to start."""
    full = [sys.executable, "-m", "bench", *line.split(), *words]
    return subprocess.run(full, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def unchecked(text: str) -> str:
    """Return lines without their checksums, as earlier versions wrote them: a test may then change them."""
    return re.sub(r',\s*"crc32": ?"[0-9a-f]{8}"', "", text)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under a folder, by relative path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the drawing of figures, which takes seconds and is tested elsewhere."""

    def none(frames: object, folder: Path, *how: object) -> Iterator[Any]:
        folder.mkdir(parents=True)
        return iter(())

    monkeypatch.setattr("bench.report.figures.begin_figures", none)
