"""Checks that no other package hides one of Lethe's packages."""

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("bench", "strategies", "suites")
_HERE = Path(__file__).resolve().parents[1]


class HiddenPackage(ImportError):
    """Another package has the name of one of Lethe's packages."""


def check_packages() -> None:
    """Raise HiddenPackage if an import of one of Lethe's packages would find another package."""
    for name in PACKAGES:
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found == _HERE / name / "__init__.py":
            continue
        if found is None:
            raise HiddenPackage(
                f"package {name!r} of Lethe is not installed: pip install --force-reinstall lethe-bench"
            )
        what = found.parent if found.name == "__init__.py" else found
        raise HiddenPackage(f"{what} hides Lethe's package {name!r}: work in another folder, or rename it")


def shared_packages() -> str:
    """Return which of Lethe's packages other distributions also install files into, empty for none."""
    owners = packages_distributions()
    found = {name: sorted(set(owners.get(name, ()))) for name in PACKAGES}
    return "; ".join(f"{name!r} by {' and '.join(of)}" for name, of in found.items() if len(of) > 1)
