import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import strategies
from bench import cli
from bench.checks.conformance import SMALL
from bench.plan import CellSpec, Request, one_cell
from bench.plan.selectors import identity
from bench.runner import Options, Outcome, carry_out
from suites.base import SUITES, Suite, register
from suites.errors import UserError
from tests.toy import TOY, TOY_AGAIN, TOY_PAIRS, TOY_TEXT, TOY_UNEVEN

register(TOY)
register(TOY_TEXT)
register(TOY_PAIRS)
register(TOY_UNEVEN)
register(TOY_AGAIN)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run side by side: a second thread of one waits for the core of another, six times the time."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for what they start


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests put into the cache is gone after them; those that run side by side share it, as users do."""
    own = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
        patch.setenv("LETHE_CACHE", str(shared / "cache"))
        yield


@pytest.fixture(autouse=True)
def no_mirror(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see the real data only where they ask for it."""
    if "real_data" not in request.fixturenames:
        monkeypatch.delenv("LETHE_DATA", raising=False)


@pytest.fixture
def real_data() -> str:
    """The folder of the local mirror; the test is skipped where there is none."""
    folder = os.environ.get("LETHE_DATA")
    if not folder:
        pytest.skip("LETHE_DATA names no mirror of the real data sets here")
    return folder


def ran(folder: Path, *requests: Request, **options: Any) -> Outcome:
    """Carry requests out in this process, in silence."""
    return carry_out(requests, folder, Options(**{"jobs": 1, "quiet": True} | options), "test")


Command = Callable[..., tuple[int, str, str]]
Refuses = Callable[..., None]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process, where the toy suites are: a line, split at spaces, and whole words."""

    def run(line: str, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what was printed before
        monkeypatch.setattr(sys, "argv", ["lethe", *line.split(), *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def refuses(command: Command) -> Refuses:
    """Assert that a line ends with exit code 2 and one line of error, which says this."""

    def check(says: str, line: str, *words: str) -> None:
        code, _, err = command(line, *words)
        assert (code, err[:7], err.count("\n")) == (2, "lethe: ", 1), err
        assert says in err

    return check


def refused(says: str, act: Callable[..., object], *args: Any, **named: Any) -> None:
    """Assert that a call raises a UserError of one line that says this, a regular expression."""
    with pytest.raises(UserError, match=says) as caught:
        act(*args, **named)
    assert "\n" not in str(caught.value)


def process(line: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does; in a process of its own it takes seconds to start."""
    full = [sys.executable, "-m", "bench", *line.split(), *words]
    return subprocess.run(full, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@contextmanager
def registered(suite: Suite) -> Iterator[Suite]:
    """Have a suite in the registry within a block."""
    try:
        yield register(suite)
    finally:
        del SUITES[suite.name]


def toy_cell(strategy: str = "finetune", seed: int = 0, scenario: str = "class", **changes: Any) -> CellSpec:
    """Return a cell of a toy suite.

    Changes are hyper-parameters, training settings, ``suite``, ``model`` or ``model_options``.
    """
    tunes = strategies.get(strategy).tunes
    if tunes and not {"suite", "model"} & set(changes):  # written for transformers
        changes["suite"] = "toy-text"
        changes["model_options"] = {"tune": tunes, "max_tokens": 16} | changes.get("model_options", {})
        changes.setdefault("epochs", 1)
    suite, options = changes.pop("suite", "toy"), changes.pop("model_options", {})
    known = asdict(strategies.get(strategy)())
    hyper = {k: v for k, v in changes.items() if k in known}
    settings = {k: v for k, v in changes.items() if k not in known}
    cell = one_cell(suite, strategy, scenario, seed, settings | options)
    named = {k: v for k, v in changes.items() if k != "model"}
    hyper = cell.hyper | SMALL.get(strategy, {}) | hyper
    return replace(cell, hyper=hyper, identity=identity(strategy, named))


def outcome(record: dict[str, Any]) -> dict[str, Any]:
    """Return what of a record must be the same when a cell is run again."""
    return {k: v for k, v in record.items() if k not in ("timings", "written", "made_by")}


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder with its content."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
