"""A packed run: the same records and bytes, read like the folder and never written to."""

import gzip
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.plan import Request
from bench.report.live_server import Live
from bench.results import classes, load
from bench.store import RunFolder, RunReader, pack_run, unpack_run
from suites.errors import UserError
from tests.conftest import Command, Refuses, ran, refused, tree

ASKED = Request("toy", ("finetune", "er[buffer=20]", "ewc"), ("task", "class"), (0, 1))
SKIPPED = Request("toy", ("finetune", "hat"), ("class",), (0,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "run"
    ran(folder, ASKED, SKIPPED)
    return folder


def test_packing_and_unpacking_gives_the_same_bytes_and_records(run: Path, tmp_path: Path) -> None:
    before = tree(run)
    first = pack_run(run, tmp_path / "a.lethe.gz")
    assert tree(run) == before
    folder = unpack_run(first)
    assert folder == tmp_path / "a"
    assert pack_run(folder, tmp_path / "b.lethe.gz").read_bytes() == first.read_bytes()
    lines = gzip.decompress(first.read_bytes()).decode().splitlines()
    keys = [json.loads(line)["key"] for line in lines[1:]]
    assert keys == sorted(keys)
    packed, plain = RunReader(first), RunReader(run)
    assert packed.manifest() == plain.manifest() == RunReader(folder).manifest()
    assert packed.records() == plain.records() == RunReader(folder).records()
    for key in packed.statuses():
        assert packed.classes(key) == plain.classes(key) == RunReader(folder).classes(key)
    assert {"done", "skipped"} == set(packed.statuses().values())
    # An unpacked run can be continued: nothing is left to run.
    assert ran(folder, ASKED, SKIPPED).counts == {}


@pytest.mark.slow
def test_every_reader_of_a_folder_reads_a_pack(run: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "p").mkdir()
    file = pack_run(run, tmp_path / "p" / "run.lethe.gz")
    plain, packed, named = load(run), load(file), load(tmp_path / "p" / "run")
    for name, other in itertools.product(("cells", "scores", "matrix", "settings"), (packed, named)):
        assert getattr(plain, name).equals(getattr(other, name))
    assert classes(run).equals(classes(file))
    assert len(load(run, file).cells) == len(plain.cells)
    assert Live([file], lambda: "").state() == Live([file], lambda: "").state()
    said = {path: command("status", str(path)) for path in (run, file)}
    assert said[run][0] == said[file][0] == 0
    assert said[run][1].split(": ", 1)[1] == said[file][1].split(": ", 1)[1]
    assert (
        command("report", str(file))[2]
        .strip()
        .endswith("a report on a packed run needs --out, the folder to write it to")
    )
    before = tree(tmp_path / "p")
    for words in (
        f"run toy -s er --dry-run --out {file}",
        f"power {file} finetune ewc",
        f"report {file} --out {tmp_path / 'report'} --scores acc",
    ):
        code, out, err = command(words)
        assert code == 0, err
        assert out
    assert tree(tmp_path / "p") == before


@pytest.mark.parametrize("name", ["run.lethe.gz", "run"])
def test_running_into_a_pack_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    file = pack_run(run, tmp_path / "run.lethe.gz")
    with pytest.raises(UserError, match=r"is a packed run, .*: lethe unpack .*run\.lethe\.gz first"):
        ran(tmp_path / name, ASKED)
    assert list(tmp_path.iterdir()) == [file]
    unpack_run(tmp_path / name)
    assert ran(tmp_path / "run", ASKED).counts == {}


def test_pack_and_unpack_print_their_results_and_errors(
    run: Path, tmp_path: Path, command: Command, refuses: Refuses
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "r"))
    code, out, _ = command("pack", str(folder))
    assert (code, out.split(":")[0]) == (0, str(tmp_path / "r.lethe.gz"))
    assert "13 cells" in out
    for words, says in (
        (f"pack {folder}.lethe.gz", "is packed already"),
        (f"pack {tmp_path}", "is not a run's folder"),
        (f"pack {folder} {tmp_path / 'x.zip'}", "the name of a packed run must end in .lethe.gz"),
        (f"unpack {tmp_path / 'none'}", "is not a packed run"),
        (f"unpack {folder}.lethe.gz", "exists already"),
    ):
        refuses(says, words)
    assert command("unpack", str(tmp_path / "r.lethe.gz"), str(tmp_path / "s"))[0] == 0
    assert RunReader(tmp_path / "s").records() == RunReader(run).records()


def test_a_damaged_pack_is_an_error_of_one_line(run: Path, tmp_path: Path) -> None:
    file = pack_run(run, tmp_path / "a.lethe.gz")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no gzip"):
        file.write_bytes(damaged)
        refused("is damaged or not a packed run", load, file)
    lines = gzip.decompress(whole).split(b"\n")
    lines[1] = lines[1].replace(b'"status"', b'"state"')
    file.write_bytes(gzip.compress(b"\n".join(lines)))
    assert "unknown field 'state'" in load(file).unreadable[0]
    refused(r"is damaged: .*unknown field 'state'", unpack_run, file)
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_with_unreadable_records_is_not_packed(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "r"))
    (folder / "cells" / "bad.json").write_text("{")
    refused(r"not complete JSON .*lethe run sets it aside", pack_run, folder)
    assert not (tmp_path / "r.lethe.gz").exists()
    RunFolder(folder).repair()
    assert pack_run(folder).exists()


@pytest.mark.slow
def test_reading_commands_change_nothing(run: Path, tmp_path: Path, command: Command) -> None:
    """Also with damaged records and counts, in the current and in earlier layouts."""
    folder = Path(shutil.copytree(run, tmp_path / "r"))
    (folder / "cells" / "bad.json").write_text("{")
    for kind in ("cells", "classes"):
        (path,) = (folder / kind).glob("*.jsonl")
        path.write_text(path.read_text().replace('"written"', '"writen"', 1) + '{"torn')
    before = tree(folder)
    folder_mode = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        for words in (
            f"status {folder}",
            f"report {folder} --classes --out {tmp_path / 'report'}",
            f"power {folder} finetune ewc",
            f"run toy -s er --dry-run --out {folder}",
        ):
            code, out, err = command(words)
            assert code == ("--dry-run" not in words), err  # a reader names what is damaged
            if words.startswith(("status", "report")):
                assert "bad.json cannot be read: it is not complete JSON" in out + err
                assert "unknown field 'writen'; did you mean written?" in out + err
            assert tree(folder) == before, words
        found: Any = classes(folder)
        assert len(found)
        assert Live([folder], lambda: "").state()
        assert tree(folder) == before
    finally:
        folder.chmod(folder_mode)
