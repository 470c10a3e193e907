"""Images as bytes: from columns of images, of paths, or of files; one that cannot be decoded is refused.

Axes: N images.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from suites.errors import UserError
from suites.own.columns import Table
from suites.own.declaration import Declaration
from suites.tracebacks import first_line

_MISSING = "no image: add it, or leave the row out of the file"


def images_of(d: Declaration, table: Table, rows: Any, folder: Path | None) -> Iterator[tuple[int, Any]]:
    """Yield what each image can be opened from: a path or bytes."""
    import datasets

    feature = rows.features[d.image]
    if isinstance(feature, datasets.Image):
        for row, item in enumerate(rows.cast_column(d.image, datasets.Image(decode=False))[d.image]):
            content = item and (io.BytesIO(item["bytes"]) if item.get("bytes") is not None else item["path"])
            table.refuse(d, [] if content else [row], _MISSING)
            yield row, content
    elif getattr(feature, "dtype", "") in ("string", "large_string"):
        for row, name in enumerate(rows[d.image]):
            table.refuse(d, [] if name else [row], _MISSING)
            yield row, (folder or Path()) / name
    else:
        raise UserError(f"{d.place}: column {d.image!r} contains neither images nor paths of images")


def pixels(d: Declaration, images: Iterable[tuple[int, Any]], table: Table) -> np.ndarray[Any, Any]:
    """Return the images as bytes (N, channels, height, width): grey if all are, else in three colours."""
    from PIL import Image

    found: list[np.ndarray[Any, Any]] = []
    for row, source in images:
        try:
            with Image.open(source) as image:
                image.load()
                mode = image.mode
                if mode.startswith(("I", "F")):
                    table.refuse(d, [row], f"the image has pixels of type {mode}, not bytes: convert it")
                plain = image.convert("L" if mode in ("1", "L") else "RGB")
        except UserError:
            raise
        except Exception as error:  # decoders raise errors of many kinds
            table.refuse(d, [row], f"the image cannot be decoded: {first_line(error.__cause__ or error)}")
        if d.size:
            plain = plain.resize((d.size, d.size), Image.Resampling.BILINEAR)
        found.append(np.asarray(plain, dtype=np.uint8))
        height, width = found[row].shape[:2]
        if found[row].shape[:2] != found[0].shape[:2]:
            first = " x ".join(map(str, found[0].shape[:2]))
            what = f"the image has {height} x {width} pixels, and {first} in {table.where(0)}"
            table.refuse(d, [row], f"{what}: resize all with --size {found[0].shape[0]}")
    if any(array.ndim == 3 for array in found):
        found = [a if a.ndim == 3 else np.repeat(a[:, :, None], 3, 2) for a in found]
        return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2))
    return np.stack(found)[:, None]
