"""Holding a lease: a heartbeat beside the work, for holders that other machines can't see."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Final

import sqlalchemy as sa

from sjd_dask.errors import Busy, SjdError
from sjd_dask.store.catalogue.leases import check_lease, drop_lease, take_lease
from sjd_dask.store.catalogue.session import Catalogue
from sjd_dask.store.catalogue.staging import heartbeat_staging
from sjd_dask.store.owners import HEARTBEAT_SECONDS, Owner

# One for all that decides who belongs to which class, or who is in the cohort at all: they exclude one another.
NIGHT: Final = "night"

# What this process holds. A record that it could not remove (a catalogue locked for too long) is not among them, and
# does not keep it out for the rest of its life.
_HELD: set[tuple[str, str]] = set()


class Lease:
    """The right to do something alone; a context manager. Made by `Cohort.lease`.

    Attributes
    ----------
    name : str
    owner : Owner
    taken_from : Owner or None
        The dead process that held it before, once it is taken.
    """

    def __init__(self, catalogue: Catalogue, name: str, seconds: float = HEARTBEAT_SECONDS) -> None:
        self.name = name
        self.owner = Owner.current()
        self.taken_from: Owner | None = None
        self._catalogue = catalogue
        self._seconds = seconds
        self._kept: set[str] = set()
        self._end = threading.Event()
        self._beater: threading.Thread | None = None

    def __enter__(self) -> Lease:
        here = (self._catalogue.url, self.name)
        self.taken_from = take_lease(self._catalogue, self.name, self.owner, own=here not in _HELD)
        _HELD.add(here)
        self._end.clear()
        self._beater = threading.Thread(target=self._beat, name=f"heartbeat of the {self.name}", daemon=True)
        self._beater.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._beater is not None:
            self._beater.join()
            self._beater = None
        _HELD.discard((self._catalogue.url, self.name))
        # The work is done or has failed by now: a catalogue that can't be written must not hide which.
        with suppress(SjdError):
            drop_lease(self._catalogue, self.name, self.owner)

    def keep(self, staging_id: str) -> None:
        """Say for this staged segment too that its writer lives."""
        self._kept.add(staging_id)

    def check(self, connection: sa.Connection) -> None:
        """Refuse (Busy) where another process took the lease over; inside the transaction that publishes."""
        check_lease(connection, self.name, self.owner)

    def _beat(self) -> None:
        while not self._end.wait(self._seconds):
            # A catalogue that is busy now is asked again; who was taken for dead learns it when it publishes.
            with suppress(SjdError), self._catalogue.write() as connection:
                check_lease(connection, self.name, self.owner, beat=True)
            for staging_id in list(self._kept):
                try:
                    heartbeat_staging(self._catalogue, staging_id)
                except Busy:
                    self._kept.discard(staging_id)
                except SjdError:
                    continue
