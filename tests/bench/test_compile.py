"""compile=true: what is compiled has the numbers of what is not; what cannot be compiled is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from bench.train import run_group
from lethe.testing import toy_cell
from strategies.core import Unsuitable

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {"model": "cnn", "model_options": {"width": 4, "hidden": 8}},
    "resnet18": {"model": "resnet18", "model_options": {"width": 4}},
}


@pytest.fixture(autouse=True)
def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python is compiled to graphs as always, which then call torch's own kernels: this takes no minutes."""
    torch._dynamo.reset()
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: whole(model, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "model"),
    [*((name, "mlp") for name in ("ewc", "mas", "gss", "oml", "er")), ("ewc", "cnn"), ("ewc", "resnet18")],
)
def test_compiled_steps_have_the_numbers_of_plain_ones(name: str, model: str) -> None:
    """An EWC whose Fisher is zero but for the head would have another loss in the second task."""
    hyper: dict[str, Any] = {"lam": 1000.0} if name == "ewc" else {}
    plain, compiled = (
        run_group([toy_cell(name, s, epochs=1, compile=c, **SMALL[model], **hyper) for s in range(2)])
        for c in (False, True)
    )
    for ours, theirs in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
        assert ours["test"] == theirs["test"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("mer", "takes its own steps"), ("xdg", "adds hooks"), ("lora-per-task", "transformers are not")],
)
def test_what_cannot_be_compiled_is_refused_by_name(name: str, why: str) -> None:
    with pytest.raises(Unsuitable, match=why):
        run_group([toy_cell(name, 0, "task" if name != "mer" else "class", compile=True)])
