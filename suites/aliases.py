"""The module names that README and docs of 0.1.0 show, and the modules that they import today."""

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
        """Put today's module where the import system looks for the old one."""
        sys.modules[module.__name__] = importlib.import_module(ALIASES[module.__name__])

    def get_code(self, name: str) -> CodeType:
        """Return what ``python -m`` runs under an old name."""
        source = f"import runpy\nrunpy.run_module({ALIASES[name]!r}, run_name='__main__', alter_sys=True)\n"
        return compile(source, name, "exec")


_FINDER = _Alias()


def install() -> None:
    """Let imports find the old names; a second call changes nothing."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
