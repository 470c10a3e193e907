"""Handwritten digits of scikit-learn: the default suite, with nothing to download."""

from suites import sources
from suites.base import Suite, Training, register
from suites.scenarios import by_class

DIGITS = register(
    Suite(
        name="digits",
        version=1,
        summary="1,797 handwritten digits of 8 x 8 pixels, five tasks of two; nothing to download",
        source="Alpaydin & Kaynak 1998, Optical recognition of handwritten digits, as in scikit-learn",
        licence="CC BY 4.0 (UCI)",
        load=sources.digits,
        split=by_class(5),
        scenarios=("task", "domain", "class", "online"),
        model="mlp",
        model_options={"hidden": 100, "layers": 2},
        training=Training(epochs=20, batch=16, optimiser="adam", lr=1e-3),
    )
)
