"""Trying something with a cohort that must stay as it is, to the byte."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sjd_dask.store.catalogue import staging
from sjd_dask.store.catalogue.copy import copy_to_file
from sjd_dask.store.catalogue.leases import refuse_held
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.files import Files, writing
from sjd_dask.store.lease import NIGHT

# Where the names are those of segments, one level further down.
_DEEP = ("segments",)


@contextmanager
def rehearsal(cohort: Cohort) -> Iterator[Cohort]:
    """This cohort, to stage and compute with: what is written goes to a temporary folder and is gone afterwards.

    The catalogue is copied, stored bytes are linked. Bytes in an object store can't be linked: such a cohort is given
    as it is, and what is staged in it is removed by those who staged it.

    Parameters
    ----------
    cohort : Cohort

    Raises
    ------
    Busy
        A night or a withdrawal is at work.
    """
    with cohort.catalogue.read() as connection:
        refuse_held(connection, NIGHT)
    if cohort.files.root is None:
        yield cohort
        return
    with writing(tempfile.gettempdir(), "nothing was tried"):
        folder = tempfile.TemporaryDirectory(prefix="sjd-dry-run-")
    with folder as name:
        data = Path(name) / "data"
        with writing(name, "nothing was tried"):
            _link(cohort.files.root, data)
            catalogue = copy_to_file(cohort.catalogue, Path(name) / "catalogue.sqlite")
        try:
            for record in staging.list_staging(catalogue):
                staging.drop_staging(catalogue, record.id, only_dead=True)
            yield Cohort(Files(cohort.path), cohort.name, Files(data), catalogue, cohort.layout)
        finally:
            catalogue.close()


def _link(source: Path, target: Path) -> None:
    """Folders of one's own, whose files lead to what is there."""
    target.mkdir()
    for folder in ("segments", "features", "tables", "models"):
        _link_children(source / folder, target / folder, deep=folder in _DEEP)


def _link_children(source: Path, target: Path, *, deep: bool) -> None:
    target.mkdir()
    if not source.is_dir():
        return
    with os.scandir(source) as found:
        for one in found:
            if deep and one.is_dir():
                _link_children(Path(one.path), target / one.name, deep=False)
            else:
                (target / one.name).symlink_to(one.path)
