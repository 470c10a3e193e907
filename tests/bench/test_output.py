"""Standard output: a reader that has gone, and a locale that cannot express what is printed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.cli.output import make_output_safe


@contextmanager
def _writing_to(monkeypatch: pytest.MonkeyPatch, handle: int, encoding: str) -> Iterator[None]:
    with monkeypatch.context() as patch, os.fdopen(handle, "w", encoding=encoding) as stream:
        for name in ("stdout", "__stdout__"):
            patch.setattr(sys, name, stream)
        make_output_safe()
        assert sys.stdout is not stream
        yield
        sys.stdout.close()


def test_what_nobody_reads_any_more_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with _writing_to(monkeypatch, write, "utf-8"):
        for _ in range(3):
            print("a table\n" * 100_000, flush=True)  # larger than a pipe


def test_what_a_locale_cannot_express_is_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with _writing_to(monkeypatch, os.open(path, os.O_WRONLY | os.O_CREAT), "iso-8859-1"):
        print("1 ± 2 ≈ 3", flush=True)
    assert path.read_bytes() == b"1 \xb1 2 \\u2248 3\n"


def test_output_that_somebody_replaced_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdout
    assert before is not sys.__stdout__
    make_output_safe()
    assert sys.stdout is before
