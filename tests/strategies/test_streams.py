"""Batches, and the values that ``attach`` gives to a strategy."""

from dataclasses import replace

import pytest
import torch

import strategies
from lethe.testing import SEEDS, lanes_on, new_batch, ready
from strategies.core import Draws, make_optimiser


def test_a_batch_without_padding_is_known_without_asking_the_device() -> None:
    """This also holds for a part of the batch, but no longer once weights are replaced."""
    batch = new_batch(ready("finetune"))
    assert bool((batch.weight_LB == 1).all())
    assert batch.all_count
    assert all(part.all_count for part in batch.split(2))
    values_LB = torch.rand(batch.rows_LB.shape)
    torch.testing.assert_close(batch.mean_L(values_LB), values_LB.mean(1))
    padded = replace(batch, weight_LB=torch.tensor([[1.0, 1, 0, 0, 0, 0]] * 2 + [[0.0] * 6]))
    assert not padded.all_count
    wanted = [*values_LB[:2, :2].mean(1).tolist(), 0.0]
    assert padded.mean_L(values_LB).tolist() == pytest.approx(wanted)
    assert padded.learns_L.tolist() == [1, 1, 0]


def test_shared_weights_of_batches_cannot_be_written_to() -> None:
    with pytest.raises(RuntimeError, match="memory location"):
        new_batch(ready("finetune")).weight_LB[0] = 0


@pytest.mark.parametrize("name", ["ewc", "er+lwf", "ewc+si"])
def test_attach_makes_per_lane_values_of_floats(name: str) -> None:
    """Lanes have the given values or else the default; parts of a sum too."""
    strategy, streams = strategies.get(name)(), lanes_on(SEEDS)
    fields = strategy.lane_fields()
    own = {field: getattr(strategy, field) for field in fields}
    model = ready("finetune").model
    update = make_optimiser("sgd", list(model.parameters()), 3, 0.1)
    strategy.attach(model, streams, Draws(SEEDS, "cpu"), update, lane_values={fields[0]: [0.5, 1.0, 2.0]})
    strategy.setup()
    assert getattr(strategy, fields[0]).tolist() == [0.5, 1.0, 2.0]
    for field in fields[1:]:
        assert torch.equal(getattr(strategy, field), torch.tensor([own[field]] * 3))
    for part in getattr(strategy, "parts", []):
        of_part = [getattr(part, field) for field in part.lane_fields()]
        assert all(value.shape == (3,) for value in of_part)
