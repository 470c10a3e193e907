"""Files of the cache carry a checksum: a damaged one is renamed and never read."""

import random
from pathlib import Path

import pytest

from suites.cache import is_cached, read_cached, write_cached

CONTENT = bytes(range(256)) * 4


def test_a_damaged_file_is_renamed_and_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, draw = tmp_path / "rows.json", random.Random(0)
    assert read_cached(path) is None
    for n in range(60):
        write_cached(path, lambda file: file.write(CONTENT))
        assert read_cached(path) == CONTENT
        damaged = bytearray(path.read_bytes())
        place = draw.randrange(len(damaged))
        if n % 3 == 0:
            damaged[place] ^= 1 << draw.randrange(8)
        elif n % 3 == 1:
            damaged[place:] = b""
        else:
            damaged[place // 512 * 512 :] = bytes(len(damaged) - place // 512 * 512)
        path.write_bytes(damaged)
        assert read_cached(path) is None
        assert not is_cached(path)
    assert len([*tmp_path.glob("rows.json.damaged*")]) == 60
    assert f"{path} is damaged" in (said := capsys.readouterr().err.splitlines()[-1])
    assert said.endswith("it is rows.json.damaged-60 now, and is made again")


def test_a_cache_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    write_cached(tmp_path / "rows.json", full)
    assert [*tmp_path.iterdir()] == []
