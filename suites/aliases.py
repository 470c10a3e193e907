"""Module names of version 0.1.0, and the modules that have replaced them."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

ALIASES = {
    "bench.gpu": "bench.checks.gpu",
    "bench.serve": "bench.export.predictor",
    "strategies.base": "strategies.core",
    "strategies.lanes": "strategies.core",
}


class _Alias(MetaPathFinder, Loader):
    """Finds and loads the modules of ``ALIASES``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old name, None for any other."""
        return ModuleSpec(name, self) if name in ALIASES else None

    def exec_module(self, module: ModuleType) -> None:
        """Register the new module under the old name."""
        sys.modules[module.__name__] = importlib.import_module(ALIASES[module.__name__])

    def get_code(self, name: str) -> CodeType:
        """Return the code that ``python -m`` runs for an old name."""
        source = f"import runpy\nrunpy.run_module({ALIASES[name]!r}, run_name='__main__', alter_sys=True)\n"
        return compile(source, name, "exec")


_FINDER = _Alias()


def install() -> None:
    """Make the old names importable; a second call has no effect."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
