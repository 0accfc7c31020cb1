"""What a cohort does with changes as a whole: a night in one transaction, taking one back, the history of calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from sjd_dask import names
from sjd_dask.store.catalogue import calls as call_records
from sjd_dask.store.catalogue import nights, retention, rollback, tombstones
from sjd_dask.store.catalogue.nights import Arrival, CallChanges, PublishedNight
from sjd_dask.store.catalogue.rollback import Change, RolledBack
from sjd_dask.store.catalogue.samples import withdrawn_samples
from sjd_dask.store.catalogue.session import Catalogue
from sjd_dask.store.files import Files
from sjd_dask.store.items import ResultItem, written
from sjd_dask.store.lease import NIGHT, Lease
from sjd_dask.store.segment import remove_segment


class Changes:
    """Changes of a cohort that touch more than one thing at once."""

    files: Files
    catalogue: Catalogue

    def lease(self, name: str = NIGHT) -> Lease:
        """The right to do something alone: ``with cohort.lease(): ...``.

        Entering raises `Busy` at once while a living process holds it (also this one); a dead process's is taken over.
        """
        return Lease(self.catalogue, name)

    def publish_night(
        self,
        run_id: str,
        epoch: int,
        arrivals: Sequence[Arrival] = (),
        sheets: Sequence[pd.DataFrame] = (),
        items: Sequence[ResultItem] = (),
        calls: CallChanges | None = None,
        message: str = "",
        after: Mapping[str, int] | None = None,
        *,
        lease: Lease | None = None,
        who: str | None = None,
    ) -> PublishedNight:
        """Make a night visible: one transaction, one snapshot number for all of it.

        Parameters
        ----------
        run_id, epoch
            The run and the epoch this driver holds.
        arrivals : sequence of Arrival
            From `ingest.pipeline.stage`. Rows that are there already with the same content are left as they are.
        sheets : sequence of DataFrame
            Sample columns, as `Cohort.add_samples` takes them; of two sheets with one cell the later counts.
        items : sequence of (kind, name, tables, meta)
            As in `Cohort.publish_results`.
        calls : CallChanges, optional
            Calls that end and calls that begin.
        after : mapping of ``kind/name`` to int, optional
            For each result the newest version that this night goes on from (0: none).
        lease : Lease, optional
            Of the night: checked in the transaction.

        Returns
        -------
        PublishedNight
            `snapshot` is None where nothing changed; the run is published all the same.

        Raises
        ------
        Busy
            Another driver took the run or the lease over, published meanwhile, or removed an arrival as a dead
            writer's. Nothing was published.
        DataError
            Samples that are published with other content and no `replace`, other features than the assay's, or a sheet
            that breaks a rule. Nothing was published; the arrivals stay staged.
        """
        new = written(self.files, items)
        done = nights.publish_night(
            self.catalogue,
            run_id,
            epoch,
            arrivals,
            sheets,
            new,
            calls,
            message,
            after or {},
            None if lease is None else lease.check,
            who,
        )
        for one in done.unused:
            remove_segment(self.files, one.assay, one.record.segment_id)
        return done

    def change(self, target: int | str) -> Change:
        """A published change, by its snapshot number or by the run that published it.

        Raises
        ------
        SpecError
            There is none.
        """
        return rollback.find_change(self.catalogue, target)

    def removed_versions(self, kind: str, name: str) -> dict[int, int]:
        """Versions of a result that ``sjd gc --keep-nights`` removed, and the changes that did it."""
        with self.catalogue.read() as connection:
            return retention.removed_versions(connection, kind, name)

    def rollback(
        self,
        target: int | str,
        why: str = "",
        who: str | None = None,
        extra: Sequence[ResultItem] = (),
        after: Mapping[str, int] | None = None,
    ) -> RolledBack:
        """Take back a published change, as a new change: nothing is deleted, every past view stays.

        Rows, sample columns, calls, promotions and results that the change showed are retired, and those that it
        retired come back. An assay that it made stays, without samples. A run whose results are gone can run again.

        Parameters
        ----------
        target : int or str
            A snapshot number, or a run (or the beginning of its id): its newest change that was not taken back.
        extra : sequence of (kind, name, tables, meta)
            Results that tell of it, published in the same transaction.
        after : mapping, optional
            As in `publish_night`.

        Raises
        ------
        SpecError
            There is no such change.
        DataError
            A later change touched the same things (the message names it), or the change can't be taken back at all: a
            compaction, a withdrawal, or one that was taken back already. Nothing was changed.
        Busy
            A result has another newest version than `after` says.
        """
        # Asked before anything is written; the transaction asks again.
        rollback.find_change(self.catalogue, target)
        new = written(self.files, extra)
        return rollback.roll_back(self.catalogue, target, why, who, new, after or {})

    def call_history(
        self, output: str, person_id: str | None = None, sample_id: str | None = None, *, live: bool = False
    ) -> pd.DataFrame:
        """Every call of an output that was ever published: of a person, of a sample, or of all.

        Parameters
        ----------
        output : str
            NAME of ``classes/NAME``.
        live : bool
            Only the calls of today.

        Returns
        -------
        DataFrame
            sample_id, person_id, visit, date, status, call, top_class, confidence, model, row_hash, run_id,
            published_in and retired_in (snapshots), published_at and retired_at (seconds since 1970). By date (unknown
            dates last), then in order of publication.

        Raises
        ------
        SpecError
            No calls were published under that name.
        """
        with self.catalogue.read() as connection:
            return call_records.call_history(connection, output, person_id, sample_id, live)

    def is_withdrawn(self, ids: Iterable[str]) -> set[str]:
        """Those of these ids (of people or samples) that were withdrawn."""
        with self.catalogue.read() as connection:
            return tombstones.withdrawn_ids(connection, list(ids))

    def withdrawn_samples(self, sample_ids: Iterable[str], columns: pd.DataFrame | None = None) -> set[str]:
        """Those of these samples that were withdrawn, or whose person was.

        Parameters
        ----------
        columns : DataFrame, optional
            Index: sample ids; its `person_id` goes before the one that the cohort knows. Its samples are asked for too.
        """
        persons: dict[str, dict[str, str | None]] = {}
        if columns is not None:
            named = columns[names.PERSON_ID] if names.PERSON_ID in columns else [None] * len(columns)
            persons = {
                str(one): {names.PERSON_ID: None if pd.isna(person) else str(person)}
                for one, person in zip(columns.index, named, strict=True)
            }
        with self.catalogue.read() as connection:
            return withdrawn_samples(connection, sample_ids, persons)

    def keyed_hashes(self, ids: Iterable[str]) -> list[str]:
        """Each id as only this cohort can make it out: blake2b-128 with its secret key, in hexadecimal."""
        with self.catalogue.read() as connection:
            key = tombstones.id_key(connection)
        return [tombstones.keyed_hash(key, str(one)) for one in ids]
