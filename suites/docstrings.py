"""Which package a docstring is from: texts of packages that Lethe needs anyway; nothing to download.

The sources are parsed, never imported. The texts, and so the fingerprint, depend on the installed versions:
records of different versions are not comparable, and their fingerprints say so. Parsing takes seconds, so the
texts are cached under a hash of everything that they depend on. No declaration: there are no rows to read
before the sources are parsed.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from suites.announce import announced
from suites.base import Data, Suite
from suites.cache import cache_folder, read_cached, write_cached
from suites.errors import Unavailable
from suites.scenarios import by_class
from suites.text import HEAD_TRAINING, data_of_texts

PACKAGES = (
    "datasets",
    "matplotlib",
    "numpy",
    "pandas",
    "rich",
    "scipy",
    "seaborn",
    "sklearn",
    "torch",
    "transformers",
)
MOST = 800
"""Largest number of texts of one package."""
_ALIASES = (
    "hugging ?face",
    "mpl",
    "np",
    "pd",
    "plt",
    "pyplot",
    "pytorch",
    "scikit[- ]learn",
    "scikits?",
    "skl",
    "sns",
)
_NAMES = re.compile(rf"(?<![a-z])({'|'.join((*PACKAGES, *_ALIASES))})(?![a-z])", re.IGNORECASE)
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Names of distributions that differ from the name of their package."""
_SKIPPED = {"tests", "testing", "externals", "_vendor"}


@cache
def docstrings() -> Data:
    """Return first paragraphs of docstrings with the names of packages masked; the class is the package.

    Paragraphs of fewer than six words, and those that occur in several packages, are left out. About a fifth
    of the others, chosen by their hash, is for testing.

    Raises:
        Unavailable: The source of a package is missing.
    """
    of_package = _of_packages()
    times = Counter(text for texts in of_package.values() for text in texts)
    rows = []
    for c, texts in enumerate(of_package.values()):
        own = sorted((_hash(text), text, c) for text in texts if times[text] == 1)
        rows += own[:MOST]
    # Shuffled by their hashes: all rows for training, then all for testing.
    rows.sort(key=lambda row: (_for_testing(row[0]), row[0]))
    n_train = sum(not _for_testing(mark) for mark, _, _ in rows)
    y_N = torch.tensor([c for _, _, c in rows])
    return data_of_texts("docstrings", [text for _, text, _ in rows], y_N, n_train, PACKAGES)


def masked(text: str) -> str:
    """Return a text with every name of a package replaced."""
    return _NAMES.sub("[package]", text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _for_testing(mark: str) -> bool:
    # The end of the hash: its beginning is the order, of which the cap takes the first.
    return int(mark[-8:], 16) % 5 == 0


def _of_packages() -> dict[str, list[str]]:
    """Return each package's paragraphs, from the cache if it has an intact copy of the same versions."""
    path = _cache_path()
    content = path and read_cached(path)
    if content:
        saved: dict[str, list[str]] = json.loads(content)
        return saved
    found = {}
    for n, package in enumerate(PACKAGES, 1):
        step = f"{n} of {len(PACKAGES)}; once for these versions"
        with announced(f"docstrings: parsing the source of {package} ({step}) ..."):
            found[package] = sorted(_paragraphs(package))
    if path is not None:
        write_cached(path, lambda file: file.write(json.dumps(found).encode()))
    return found


def _cache_path() -> Path | None:
    """Return where the paragraphs of the installed versions are cached; None if a version is not known."""
    try:
        versions = [importlib.metadata.version(_DISTRIBUTIONS.get(p, p)) for p in PACKAGES]
    except importlib.metadata.PackageNotFoundError:
        return None
    # The text of this file is in the hash, so that a change of the reader makes a new cache file. Python's
    # version decides which files can be parsed.
    facts = [versions, sys.version_info[:2], MOST, Path(__file__).read_text(encoding="utf-8")]
    return cache_folder() / f"docstrings-{_hash(json.dumps(facts))[:32]}.json"


def _paragraphs(package: str) -> set[str]:
    """Return a package's paragraphs; reads files in the order of their paths' hashes until it has enough."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"the suite docstrings reads the source of {package}, which is not installed")
    root = Path(spec.submodule_search_locations[0])
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
    found: set[str] = set()
    for path in sorted(paths, key=_hash):
        if _SKIPPED.isdisjoint(path.split("/")):
            found |= set(_of_file(root / path))
        if len(found) >= MOST * 5 // 4:  # some occur in other packages, too
            break
    if not found:
        raise Unavailable(f"the suite docstrings finds no source of {package} in {root}")
    return found


def _of_file(path: Path) -> Iterator[str]:
    """Yield the first paragraphs of a file's docstrings, masked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escape sequences
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return  # a template, or a file for another version of Python
    nodes: list[ast.Module | ast.ClassDef | ast.FunctionDef] = [tree]
    for node in nodes:
        # Only bodies: walking through all expressions would take most of the time.
        nodes += [child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef)]
        paragraph = (ast.get_docstring(node) or "").partition("\n\n")[0]
        text = masked(" ".join(paragraph.split()))
        if len(text.split()) >= 6 and not text.startswith(("..", ">>>")):
            yield text


DOCSTRINGS_SUITE = Suite(
    name="docstrings",
    version=1,
    summary="which of ten installed packages a docstring is from, five tasks of two; nothing to download",
    source="Lethe; the texts are those of the installed versions, which the fingerprint identifies",
    licence="those of the installed packages: Apache 2.0, BSD, MIT, and matplotlib's own",
    load=docstrings,
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model="minilm",
    model_options={"max_tokens": 128},
    training=HEAD_TRAINING,
)
