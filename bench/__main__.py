"""``python -m bench`` is the command ``lethe``."""

from bench.cli import main

main()
