"""``python -m lethe`` and the command ``lethe``."""

import sys

from lethe.installed import HiddenPackage, check_packages, shared_packages


def main() -> None:
    """Run the command; if another package hides one of Lethe's, print one line and exit with 2."""
    try:
        check_packages()
        from bench.cli import main as command
    except HiddenPackage as error:
        _refuse(str(error))
    except ImportError as error:
        if not (shared := shared_packages()):
            raise
        _refuse(f"{error}; installed twice: {shared}; uninstall the other one, then reinstall lethe-bench")
    command()


def _refuse(words: str) -> None:
    print(f"lethe: {words}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
