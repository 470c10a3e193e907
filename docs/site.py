"""A hook of mkdocs: a link to a file outside docs, which the site does not have, becomes the file's name."""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace links that leave docs by the name of the file; called by mkdocs for each page."""

    def replaced(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        if path.startswith("docs/"):
            return match.group(0)
        return text if path in text else f"{text} (`{path}`)"

    return _LINK.sub(replaced, markdown)
