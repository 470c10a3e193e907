"""``lethe cite``: BibTeX of the methods, suites and Lethe that a run used, and the licences of its data."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import suites
from bench.report.families import about
from bench.results import Frames
from strategies import split

_BIB = Path(__file__).with_name("references.bib")
_FIELD = re.compile(r"(\w+) = \{((?:[^{}]|\{[^{}]*\})*)\}")


@dataclass(frozen=True)
class Reference:
    """An entry of references.bib."""

    key: str
    bibtex: str
    surname: str
    """Surname of the first author."""
    year: str
    title: str

    @classmethod
    def read(cls, line: str) -> "Reference":
        """Read an entry, which is one line of the file."""
        plain = re.sub(r"\{\\\S(\w)\}|\{\\\S\{(\w)\}\}", r"\1\2", line)
        fields = dict(_FIELD.findall(plain))
        author, title = fields["author"].strip("{}"), re.sub(r"[{}]", "", fields["title"])
        return cls(line.split("{")[1].split(",")[0], line, author.split(",")[0], fields["year"], title)

    def is_meant(self, citation: str) -> bool:
        """Return whether a citation such as ``Shin et al. 2017, Continual learning ...`` can be this one."""
        return re.search(rf"\b{re.escape(self.surname)}\b.*\b{self.year}\b", citation) is not None

    def titled(self, citation: str) -> bool:
        """Return whether a citation contains the first words of the title."""
        return " ".join(self.title.lower().split()[:3]) in citation.lower()


@cache
def _references() -> list[Reference]:
    return [Reference.read(line) for line in _BIB.read_text(encoding="utf-8").splitlines()]


def meant(text: str) -> Iterator[Reference | str]:
    """Yield the reference of each citation in a text, or the citation itself where there is none."""
    for citation in re.split(r";\s*", text):
        found = [r for r in _references() if r.is_meant(citation)]
        found = [r for r in found if r.titled(citation)] if len(found) > 1 else found
        if found:
            yield found[0]
        elif re.search(r"[A-Z]\w+.* (19|20)\d\d\b", citation):
            yield citation


def citations(frames: Frames) -> str:
    """Return the BibTeX of a run, with citations that have no entry and the licences of the data as comments.

    Args:
        frames: The run, as ``lethe.load`` returns it.
    """
    methods = {
        part: str(about(part, frames.described).get("paper", ""))
        for strategy in sorted(frames.cells["strategy"].unique())
        for part in split(strategy)
    }
    recorded, built_in = frames.manifest.suites, {d.name: d.metadata for d in suites.REGISTRY.descriptions()}
    data = {
        name: {**built_in.get(name, {}), **recorded.get(name, {})}
        for name in sorted(frames.cells["suite"].unique())
    }
    users: dict[Reference | str, list[str]] = {_references()[0]: ["the harness"]}
    entries, comments = [], []
    for name, text in [
        *methods.items(),
        *((name, str(said.get("source", ""))) for name, said in data.items()),
    ]:
        found = list(meant(text))
        for reference in found:
            users.setdefault(reference, []).append(name)
        if not found:
            comments.append(f"% {name}: {text or 'names no reference'}")
    comments += [
        f"% data of {name}: {said.get('licence') or 'licence not stated'}" for name, said in data.items()
    ]
    for reference, names in users.items():
        missing = f"% not in references.bib: {reference}"
        entry = reference.bibtex if isinstance(reference, Reference) else missing
        entries.append(f"% {', '.join(sorted(names))}\n{entry}")
    return "\n".join([*entries, *comments])
