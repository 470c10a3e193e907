"""The unit of a row number, from a table and from class and task."""

from dataclasses import replace

import pytest
import torch

import suites
from strategies.core import row_units
from strategies.core.row_units import RowUnits
from suites.base import Stream, Training

DIGITS = suites.get("digits").load()


def streams(options: str, scenario: str) -> list[Stream]:
    suite = suites.get(f"digits[{options}]")
    return [suite.stream(DIGITS, scenario, seed, Training()) for seed in (0, 1, 2)]  # type: ignore[arg-type]


@pytest.mark.parametrize("options", ["tasks=5", "noise=0.3,tasks=2", "blurry=0.3,disjoint=0.5"])
@pytest.mark.parametrize("outside", [False, True])
def test_units_are_those_of_class_and_task(
    options: str, outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, of tasks in each lane's own order, for wrong labels, and beside rows of no class."""
    lanes = streams(options, "class")
    if outside:
        y_N = DIGITS.y_N.clone()
        y_N[-3:] = -1
        lanes = [replace(s, data=replace(DIGITS, y_N=y_N)) for s in lanes]
    monkeypatch.setattr(row_units, "_TABLE_BYTES_CPU", 0)
    computed = RowUnits(lanes, torch.device("cpu"))
    monkeypatch.undo()
    table = RowUnits(lanes, torch.device("cpu"))
    assert len(table.tensors) == 1 < len(computed.tensors)
    n = len(DIGITS.y_N)
    for split in ("train_rows", "test_rows"):
        parts = [torch.cat([getattr(t, split) for t in s.tasks]) for s in lanes]
        rows_LR = torch.stack([rows[: min(map(len, parts))] for rows in parts])
        expected = []
        for s, rows in zip(lanes, rows_LR, strict=True):
            pairs = [zip(t.wrong_rows.tolist(), t.wrong_units.tolist(), strict=True) for t in s.tasks]
            wrong = {row: unit for of_task in pairs for row, unit in of_task}
            own = s.unit_TC[rows // n, s.data.y_N[rows % n]].tolist()
            expected.append([wrong.get(int(r), u) for r, u in zip(rows, own, strict=True)])
        assert table(rows_LR).tolist() == computed(rows_LR).tolist() == expected
        lane_1 = slice(1, 2)
        assert computed(rows_LR[lane_1], lane_1).tolist() == table(rows_LR[lane_1], lane_1).tolist()
        assert computed(rows_LR[lane_1], lane_1)[0].tolist() == expected[1]
