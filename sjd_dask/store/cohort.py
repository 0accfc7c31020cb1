"""A cohort: a folder or URL with `cohort.toml`, its data and its catalogue."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sjd_dask.errors import DataError, FormatVersionError, SpecError
from sjd_dask.names import MODELS
from sjd_dask.store.arrays import check_arrays
from sjd_dask.store.assay import Assay, user_assays
from sjd_dask.store.catalogue import layers as layer_records
from sjd_dask.store.catalogue import migrate, publish, results, runs, staging
from sjd_dask.store.catalogue import samples as sample_records
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.layers import LayerRows, PublishedLayer
from sjd_dask.store.catalogue.results import ArraysFile
from sjd_dask.store.catalogue.session import Catalogue, current_snapshot, engine_url, new_snapshot
from sjd_dask.store.changes import Changes
from sjd_dask.store.describe import describe, history
from sjd_dask.store.files import Files, is_url, writing
from sjd_dask.store.items import ResultItem, written
from sjd_dask.store.layer import Layer, LayerInfo, checked_meta, find_layer, list_layers, open_layer
from sjd_dask.store.layout import Layout
from sjd_dask.store.models import PRODUCTION, ModelRegistry
from sjd_dask.store.owners import Owner
from sjd_dask.store.result import Result
from sjd_dask.store.segment import SegmentRecord, check_name, remove_segment
from sjd_dask.store.tables import TableLike

COHORT_FILE = "cohort.toml"
DEFAULT_CATALOGUE = "sqlite:///catalogue.sqlite"


class Cohort(ModelRegistry, Changes):
    """An open cohort; made by `open_cohort` or `create_cohort`.

    Attributes
    ----------
    path : str
        The absolute folder or URL.
    folder : Path or None
        The same as a path, where it is a local folder.
    name : str
    files : Files
        Segments, feature tables, result tables, runs.
    catalogue : Catalogue
    layout : Layout
        Chunk shape of new segments.
    """

    def __init__(self, home: Files, name: str, files: Files, catalogue: Catalogue, layout: Layout) -> None:
        self.path = home.url
        self.folder = home.root
        self.name = name
        self.files = files
        self.catalogue = catalogue
        self.layout = layout

    def __repr__(self) -> str:
        return f"<Cohort {self.name!r} at {self.path}>"

    def snapshot(self) -> int:
        """Number of the newest published change; 0 in an empty cohort."""
        with self.catalogue.read() as connection:
            return current_snapshot(connection)

    def assays(self) -> list[str]:
        """Names of the assays, sorted; layers are not among them."""
        with self.catalogue.read() as connection:
            return user_assays(connection)

    def assay(self, name: str, snapshot: int | None = None) -> Assay:
        """An assay, as it is or as an earlier snapshot showed it.

        Raises
        ------
        SpecError
            No assay or no snapshot of that name.
        """
        return Assay(self.files, self.catalogue, check_name(name, "an assay"), snapshot)

    def layers(self, snapshot: int | None = None) -> list[LayerInfo]:
        """The layers with their versions, by name."""
        return list_layers(self.catalogue, snapshot)

    def layer(self, ref: str, snapshot: int | None = None) -> Layer:
        """A layer by ``NAME``, ``NAME@VERSION``, or either after ``layers/``; without a version the newest.

        Raises
        ------
        SpecError
            No such layer; the message names what there is.
        """
        return open_layer(self.files, self.catalogue, ref, snapshot)

    def find_layer(self, name: str, key: str, snapshot: int | None = None) -> Layer | None:
        """The published version of a layer whose rows are kept under this key; None where there is none."""
        return find_layer(self.files, self.catalogue, name, key, snapshot)

    def samples(self, snapshot: int | None = None) -> pd.DataFrame:
        """Sample columns, index `sample_id` (str). See `catalogue.samples.read_samples` for types."""
        with self.catalogue.read() as connection:
            return sample_records.read_samples(connection, snapshot)

    def add_samples(self, frame: pd.DataFrame, message: str = "", *, who: str | None = None) -> int | None:
        """Add or correct sample columns; what was known before is kept as history.

        Parameters
        ----------
        frame : DataFrame
            Index: sample ids. Its columns replace those columns for its samples, missing cells included; other columns
            and other samples stay. Rows of withdrawn people are left out.

        Returns
        -------
        int or None
            The new snapshot; None where nothing changes.

        Raises
        ------
        DataError
            Empty or repeated ids, no rows, or a column twice.
        """
        records = sample_records.checked_records(frame)
        with self.catalogue.write() as connection:
            for one in sample_records.withdrawn_samples(connection, [], records):
                del records[one]
            changed = sample_records.changed_records(connection, records)
            if not changed:
                return None
            text = message or f"{len(changed)} samples: {', '.join(map(str, frame.columns[:8]))}"
            snapshot = new_snapshot(connection, "samples", text, who=who)
            sample_records.insert_records(connection, changed, snapshot)
            return snapshot

    def info(self) -> dict[str, Any]:
        """What the cohort holds, as plain data."""
        return describe(self)

    def log(self) -> list[dict[str, Any]]:
        """Published changes, newest last."""
        return history(self.catalogue)

    def published_hashes(self, assay: str, sample_ids: Iterable[str]) -> dict[str, str]:
        """Row hashes of those samples that are published now."""
        with self.catalogue.read() as connection:
            live = publish.live_rows(connection, assay, list(sample_ids))
        return {sample_id: row.row_hash for sample_id, row in live.items()}

    def begin_staging(self, assay: str, segment_id: str, sample_ids: Sequence[str], owner: Owner | None = None) -> str:
        """Register a segment about to be written; returns the staging id. Busy where a living writer overlaps."""
        check_name(assay, "an assay")
        self.sweep_dead(assay)
        return staging.begin_staging(self.catalogue, assay, [check_name(segment_id, "a segment")], sample_ids, owner)

    def sweep_dead(self, assay: str | None = None) -> list[str]:
        """Remove what dead writers left; returns the segment ids."""
        removed = []
        for record in staging.list_staging(self.catalogue):
            if (assay is None or record.assay == assay) and not record.is_alive():
                # Forgotten first: a writer that was only slow can then not publish what is being removed.
                if staging.drop_staging(self.catalogue, record.id, only_dead=True) is None:
                    continue
                for segment_id in record.segment_ids:
                    remove_segment(self.files, record.assay, segment_id)
                    removed.append(segment_id)
        return removed

    def heartbeat_staging(self, staging_id: str) -> None:
        """Say that the writer lives. Busy where it was taken for dead."""
        staging.heartbeat_staging(self.catalogue, staging_id)

    def abandon(self, staging_id: str) -> None:
        """Give up a segment: its bytes and its record are removed."""
        # The bytes first: on a full disk the catalogue can't be changed before they are gone, and nobody but the caller
        # could publish them.
        for record in staging.list_staging(self.catalogue):
            if record.id == staging_id:
                for segment_id in record.segment_ids:
                    remove_segment(self.files, record.assay, segment_id)
        staging.drop_staging(self.catalogue, staging_id)

    def publish_segment(
        self,
        staging_id: str,
        record: SegmentRecord,
        row_hashes: list[str],
        replace: bool = False,
        message: str = "",
        sample_columns: pd.DataFrame | None = None,
        who: str | None = None,
    ) -> publish.Published:
        """Make a written segment visible in one transaction. See `catalogue.publish.publish_segment`.

        On an error the segment stays staged: `abandon` removes it. Content that is there already is a no-op: nothing
        but the sample columns changes, and the new bytes are removed.
        """
        columns = None if sample_columns is None else sample_records.checked_records(sample_columns)
        done = publish.publish_segment(
            self.catalogue, staging_id, record, row_hashes, replace=replace, message=message, who=who, columns=columns
        )
        if done.noop:
            remove_segment(self.files, record.assay, record.segment_id)
        return done

    def result(self, ref: str, snapshot: int | None = None) -> Result:
        """A result by ``kind/name`` (the newest), ``kind/name@version``, or ``models/NAME@production``.

        Raises
        ------
        SpecError
            No such result; the message names what there is.
        """
        if ref.startswith(f"{MODELS}/") and ref.endswith(f"@{PRODUCTION}"):
            return self.find_model(ref, snapshot)
        return Result(self.files, results.find_result(self.catalogue, ref, snapshot))

    def results(self, snapshot: int | None = None) -> list[Result]:
        """All results, in order of publication."""
        return [Result(self.files, record) for record in results.list_results(self.catalogue, snapshot)]

    def publish_result(
        self,
        kind: str,
        name: str,
        tables: Mapping[str, TableLike],
        meta: Mapping[str, Any],
        run_id: str | None = None,
        epoch: int | None = None,
        message: str = "",
        who: str | None = None,
    ) -> Result:
        """Publish one result. See `publish_results`."""
        return self.publish_results([(kind, name, tables, meta)], run_id, epoch, message, who)[0]

    def publish_results(
        self,
        items: Sequence[ResultItem],
        run_id: str | None = None,
        epoch: int | None = None,
        message: str = "",
        who: str | None = None,
    ) -> list[Result]:
        """Publish results of one run together: tables are written first, then one transaction shows them all.

        Parameters
        ----------
        items : sequence of (kind, name, tables, meta)
            `tables` maps names to Arrow tables (or record batch readers, written as they stream); ``"table"`` is the
            main one. `meta` is plain data.
        run_id, epoch : optional
            The run and the epoch this driver holds.

        Raises
        ------
        Busy
            Another driver took the run over. Nothing was published.
        SjdError
            Storage refused the tables. Nothing was published.
        """
        new = written(self.files, items)
        records = results.insert_results(self.catalogue, new, run_id=run_id, epoch=epoch, message=message, who=who)
        return [Result(self.files, record) for record in records]

    def publish_layer(
        self,
        run_id: str,
        epoch: int,
        name: str,
        key: str,
        parameters: ArraysFile | None,
        rows: Sequence[LayerRows],
        meta: Mapping[str, Any],
        companions: Sequence[ResultItem] = (),
        retire: Iterable[str] = (),
        message: str = "",
        who: str | None = None,
        companions_after: Sequence[int] | None = None,
    ) -> PublishedLayer:
        """Publish rows of a layer and tables beside it: tables are written first, then one transaction shows them all.

        Parameters
        ----------
        run_id, epoch
            The run and the epoch this driver holds.
        name, key : str
            The layer, and `layer.layer_key` of its parameters. A version with this key takes the rows; without one a
            new version is made.
        parameters : ArraysFile or None
            From `arrays.write_arrays`; needed for a new version.
        rows : sequence of LayerRows
            Finished segments. A sample that has a row from the same source row keeps it; one whose source changed gets
            the new row, unless the row it has belongs to the source's row of today.
        meta : mapping
            Plain data with ``source_assay`` and ``parameters_hash``; kept with a new version.
        companions : sequence of (kind, name, tables, meta)
            As in `publish_results`.
        retire : iterable of str
            Samples that left the source.
        companions_after : sequence of int, optional
            For each companion the newest version that it was made from (0: none): it takes the place after that one,
            or nothing is published.

        Raises
        ------
        Busy
            Another driver took the run over, or a companion has a newer version. Nothing was published.
        DataError
            Other features than the version's, a sample twice, or a lost parameters file. Nothing was published.
        """
        plain = checked_meta(name, key, meta)
        if parameters is not None:
            check_arrays(self.files, parameters)
        new = written(self.files, companions)
        return layer_records.publish_layer(
            self.catalogue, run_id, epoch, name, key, parameters, rows, plain, new, retire, message, who,
            companions_after,
        )  # fmt: skip

    def runs(self, state: str | None = None) -> list[runs.Run]:
        """Runs, oldest first."""
        return runs.list_runs(self.catalogue, state)


def create_cohort(
    path: str | Path,
    data: str | None = None,
    catalogue: str | None = None,
    name: str | None = None,
    layout: Layout | None = None,
    fill: Callable[[Catalogue], object] | None = None,
) -> Cohort:
    """Make an empty cohort.

    Parameters
    ----------
    path : str or Path
        A folder (made if need be; other files in it stay) or URL that will hold `cohort.toml`.
    data : str, optional
        Folder or URL of the bytes; default beside `cohort.toml`.
    catalogue : str, optional
        ``sqlite:///file`` (relative to the folder) or ``postgresql://user@host/database``.
    name : str, optional
        Default: the folder's name.
    layout : Layout, optional
        Chunk shape.
    fill : callable, optional
        Called with the new catalogue before the folder is a cohort to anybody.

    Raises
    ------
    SpecError
        There is a cohort already, or the catalogue's URL can't be used.
    """
    home = Files(path)
    shape = layout or Layout()
    url = catalogue or DEFAULT_CATALOGUE
    cohort_name = name or home.url.rstrip("/").rsplit("/", 1)[-1]
    if home.root is None and engine_url(url).get_backend_name() == "sqlite":
        raise SpecError(
            f"{home.url} is not a local folder, and SQLite needs one; name a --catalogue postgresql://..., or "
            f"keep the cohort in a folder and only its data there: sjd init FOLDER --data {home.url}"
        )
    if home.exists(COHORT_FILE):
        raise SpecError(f"{home.where(COHORT_FILE)} exists: there is a cohort already; nothing was changed")
    if home.root is not None:
        with writing(home.url, "no cohort was made"):
            home.root.mkdir(parents=True, exist_ok=True)
    opened = _catalogue(home, url, 30.0)
    if opened.is_sqlite and Path(str(engine_url(opened.url).database)).exists():
        raise SpecError(f"{engine_url(opened.url).database} exists; move it away or name another catalogue")
    migrate.create(opened, cohort_name)
    if fill is not None:
        fill(opened)
    text = "\n".join(
        [
            "# A cohort of sjd-dask. Paths are relative to this file.",
            f"format_version = {t.FORMAT_VERSION}",
            f"name = {json.dumps(cohort_name, ensure_ascii=False)}",
            f"data = {json.dumps(data or '.', ensure_ascii=False)}",
            f"catalogue = {json.dumps(url, ensure_ascii=False)}",
            "",
            "[layout]",
            f"chunk_samples = {shape.chunk_samples}",
            f"chunk_features = {shape.chunk_features}",
            "",
        ]
    )
    # Written last: a folder is a cohort once this file exists.
    home.write_bytes(COHORT_FILE, text.encode())
    return Cohort(home, cohort_name, data_place(home, data or "."), opened, shape)


def open_cohort(path: str | Path, timeout: float = 30.0) -> Cohort:
    """Open a cohort.

    Parameters
    ----------
    path : str or Path
        The folder or URL that holds `cohort.toml`.
    timeout : float
        Seconds to wait for another writer before `Busy`.

    Raises
    ------
    SpecError
        There is no cohort.
    FormatVersionError
        A newer package wrote it; nothing was touched.
    """
    home = Files(path)
    try:
        content = home.read_bytes(COHORT_FILE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SpecError(f"{home.url} holds no {COHORT_FILE}; make a cohort with: sjd init {home.url}") from error
    try:
        config = tomllib.loads(content.decode())
        version = int(config["format_version"])
        # A newer file may hold what this version doesn't know.
        known = version <= t.FORMAT_VERSION
        layout = Layout(**config.get("layout", {})) if known else Layout()
        name, data, url = str(config["name"]), str(config["data"]), str(config["catalogue"])
    except KeyError as error:
        raise DataError(f"{home.where(COHORT_FILE)} lacks the key {error}; restore it from a backup") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{home.where(COHORT_FILE)} cannot be understood: {error}") from error
    if not known:
        raise FormatVersionError(version, t.FORMAT_VERSION)
    catalogue = _catalogue(home, url, timeout)
    if catalogue.is_sqlite and not Path(str(engine_url(catalogue.url).database)).exists():
        # Connecting would make an empty one.
        raise DataError(f"the catalogue {engine_url(catalogue.url).database} is lost; restore it from a backup")
    migrate.open_checked(catalogue)
    return Cohort(home, name, data_place(home, data), catalogue, layout)


def data_place(home: Files, data: str) -> Files:
    """Where a cohort keeps its bytes: a URL or absolute folder, or a folder relative to its own."""
    if is_url(data) or Path(data).is_absolute():
        return Files(data)
    if data in (".", ""):
        return home
    return Files(home.root / data) if home.root is not None else home.sub(data)


def _catalogue(home: Files, url: str, timeout: float) -> Catalogue:
    parsed = engine_url(url)
    if parsed.get_backend_name() == "sqlite" and home.root is not None:
        file = Path(str(parsed.database))
        return Catalogue(f"sqlite:///{file if file.is_absolute() else home.root / file}", timeout)
    return Catalogue(url, timeout)
