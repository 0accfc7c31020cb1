"""Folders of results: there as a whole, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sjd_dask.errors import SpecError
from sjd_dask.store.files import whole_or_nothing, writing


def check_new_folder(target: Path) -> None:
    """Refuse a name that is taken, or whose parent isn't there."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SpecError(f"{target} exists and is no empty folder: name a folder that doesn't exist yet")
    if not target.absolute().parent.is_dir():
        raise SpecError(f"there is no folder {target.absolute().parent} to make {target.name!r} in: make it first")


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the target's name when all of it is there."""
    with writing(str(target), "nothing was written"), whole_or_nothing(target) as temporary:
        temporary.mkdir()
        yield temporary
