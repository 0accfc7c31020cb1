"""A large clinical sheet, cut into parts that a cluster scores; a row's bits don't depend on the cut.

Parts go by rows; where a measure looks at a person's other visits, all rows of a person are in one part. They lie
beside the file that is being written, which every worker of a shared file system can read, and are removed in the end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.clinical.columns import column_dictionary
from sjd_dask.clinical.measures import Measure, score
from sjd_dask.clinical.visits import rows_asked
from sjd_dask.errors import DataError, Interrupted, SpecError
from sjd_dask.jobs.score_table import as_table
from sjd_dask.runtime.events import Event, PartitionDone
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.files import Files, writing

if TYPE_CHECKING:
    from sjd_dask.clinical.sheet import Sheet
    from sjd_dask.jobs.clinical_sheet import ClinicalSheet
    from sjd_dask.runtime.cluster import Cluster
    from sjd_dask.runtime.here import Here

# What a part's rows are told of the query of baselines, which was put to the whole sheet as it was given.
_BASELINE = "_is_baseline"
# About a second of scoring all measures, and some hundreds of megabytes; what a part costs by itself is small beside.
PARTITION_ROWS = 100_000


@dataclass(frozen=True)
class ScoreSheetWork:
    """What the tasks share: where the parts lie, and what is scored."""

    folder: str
    measures: tuple[str, ...]
    definitions: Any
    options: Mapping[str, Any]


def score_in_partitions(
    opened: ClinicalSheet,
    sheet: Sheet,
    chosen: Sequence[Measure],
    options: Mapping[str, Any],
    target: Path,
    take: Callable[[pa.Table], None],
    cluster: Callable[[], Cluster | Here],
    partition_rows: int | None = None,
) -> None:
    """Scores of all rows, handed over piece by piece in the sheet's order.

    Parameters
    ----------
    opened, sheet
        The sheet, as read and checked in this process.
    chosen : sequence of Measure
    options : mapping
        Of the measures; nothing among them may depend on the rows of a part.
    target : path
        The file that will be written: parts lie beside it meanwhile.
    take : callable
        Is given the next rows as `score_table.as_table` makes them, while later ones are computed; from another thread,
        one call at a time.
    cluster : callable
        Gives a cluster that is open, see `starting`.
    partition_rows : int, optional
        Rows of a partition, about.
    """
    from sjd_dask.runtime.execute import run_partitions

    asked = None if options.get("baseline") is None else rows_asked(sheet.frame, options["baseline"])
    by_person = any(one.looks_at_persons(options) for one in chosen) and names.PERSON_ID in sheet.frame
    order, borders = _cut(sheet.frame, by_person, partition_rows or PARTITION_ROWS)
    with ExitStack() as stack:
        with writing(str(target.parent), "nothing was scored"):
            folder = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".parts", dir=target.absolute().parent)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        frame, problems = _plain(sheet, opened.definitions)
        given = dict(options)
        if asked is not None:
            frame[_BASELINE], given["baseline"] = asked, _BASELINE
        partitions = _write_parts(frame, order, borders, Path(folder))
        work = ScoreSheetWork(folder, tuple(one.name for one in chosen), opened.definitions, given)
        parts = PartStore(Files(folder), "score", 1)
        pieces = stack.enter_context(_Pieces(folder, partitions, take if order is None else None))
        try:
            run_partitions(
                cluster(), score_part, work, partitions, parts, on_event=pieces.listen, should_stop=pieces.failed
            )
        except Interrupted:
            pieces.finish()  # where a piece could not be written, that is why
            raise
        except (DataError, SpecError):  # told of the whole sheet, not of a part
            if problems:
                raise problems[0] from None
            score(sheet, [one.name for one in chosen], definitions=opened.definitions, **options)
            raise
        pieces.finish()
        if order is not None:
            _in_order(folder, partitions, order, take)


@contextmanager
def starting(
    cluster: str | Path | Cluster | Here, workers: int | None = None
) -> Iterator[Callable[[], Cluster | Here]]:
    """A cluster that starts while the caller prepares the work; closed in the end.

    Parameters
    ----------
    cluster, workers
        See `runtime.cluster.open_cluster`; a cluster that is open is left open.

    Yields
    ------
    callable
        Waits for the cluster, and gives it.
    """
    if not isinstance(cluster, (str, Path)):
        is_open = cluster
        yield lambda: is_open
        return
    from sjd_dask.runtime.cluster import open_cluster

    with ThreadPoolExecutor(max_workers=1) as thread:
        opening = thread.submit(open_cluster, cluster, workers=workers)
        try:
            yield opening.result
        finally:
            if opening.exception() is None:
                opening.result().close()


class _Pieces:
    """Scores of parts that are done, handed over in order by a thread of its own while others are computed."""

    def __init__(self, folder: str, partitions: Sequence[Partition], take: Callable[[pa.Table], None] | None) -> None:
        self._folder, self._take = folder, take
        self._waiting = list(reversed(partitions))
        self._done: set[int] = set()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._handed: list[Future[None]] = []

    def __enter__(self) -> _Pieces:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def listen(self, event: Event) -> None:
        if not isinstance(event, PartitionDone) or self._take is None:
            return
        self._done.add(event.index)
        while self._waiting and self._waiting[-1].index in self._done:
            self._handed.append(self._thread.submit(self._hand, self._waiting.pop()))

    def _hand(self, partition: Partition) -> None:
        assert self._take is not None
        self._take(_scores(self._folder, partition))
        Path(_path(self._folder, partition, "scores")).unlink()

    def failed(self) -> bool:
        return any(one.done() and one.exception() is not None for one in self._handed)

    def finish(self) -> None:
        """Wait, and raise what went wrong."""
        for one in self._handed:
            one.result()


def _in_order(
    folder: str, partitions: Sequence[Partition], order: np.ndarray, take: Callable[[pa.Table], None]
) -> None:
    """Rows of parts that hold other persons each, back in the sheet's order."""
    table = pa.concat_tables(_scores(folder, one) for one in partitions).unify_dictionaries()
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    for start in range(0, len(back), PARTITION_ROWS):
        take(table.take(pa.array(back[start : start + PARTITION_ROWS])))


def _cut(frame: pd.DataFrame, by_person: bool, size: int) -> tuple[np.ndarray | None, list[int]]:
    """Order of the rows (None: as they are), and the borders of the parts in it."""
    n = len(frame)
    n_parts = max(1, -(-n // size))
    if not by_person:
        return None, [n * i // n_parts for i in range(n_parts + 1)]
    person, _ = pd.factorize(frame[names.PERSON_ID])
    alone = person < 0
    person[alone] = person.max(initial=-1) + 1 + np.arange(alone.sum())
    starts = np.flatnonzero(np.append(True, person[1:] != person[:-1]))
    if len(starts) == int(person.max(initial=-1)) + 1:  # a person's rows lie together: cut between persons
        at = np.searchsorted(starts, [n * i // n_parts for i in range(n_parts)])
        return None, [*np.append(starts, n)[at].tolist(), n]
    part = person % n_parts
    order = np.argsort(part, kind="stable")
    return order, [0, *np.cumsum(np.bincount(part, minlength=n_parts)).tolist()]


def _plain(sheet: Sheet, definitions: Any) -> tuple[pd.DataFrame, list[DataError]]:
    """The sheet with its numbers checked and in their own units, and what was wrong with columns that stay as they are.

    Nothing is refused here: a column that no measure reads may hold anything.
    """
    companions = [
        name for name in sheet.frame.columns if name not in sheet.recognised and str(name) not in sheet.unknown
    ]
    frame = sheet.frame.drop(columns=companions)
    problems = []
    specs = column_dictionary(definitions).specs
    for name in sheet.recognised:
        if specs[name]["kind"] not in ("number", "level", "flag"):
            continue
        try:
            frame[name] = sheet.number(name)
        except DataError as error:
            problems.append(error)
    return frame, problems


def _write_parts(frame: pd.DataFrame, order: np.ndarray | None, borders: list[int], folder: Path) -> list[Partition]:
    """The parts as Arrow files."""
    table = _arrow(frame)
    if order is not None:
        table = table.take(pa.array(order))
    partitions = []
    for i, (start, stop) in enumerate(pairwise(borders)):
        if stop == start:
            continue
        partitions.append(Partition(i, start, stop))
        where = _path(str(folder), partitions[-1])
        with pa.OSFile(where, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.slice(start, stop - start))
    return partitions


def _arrow(frame: pd.DataFrame) -> pa.Table:
    """Columns of mixed values as text, which is read as it would be in the sheet."""
    arrays = []
    for name in frame.columns:
        column = frame[name]
        try:
            plain = isinstance(column.dtype, np.dtype) and column.dtype.kind == "f"  # NaN stays NaN, nothing is copied
            arrays.append(pa.array(column.to_numpy()) if plain else pa.array(column, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            text = column.astype(object)
            arrays.append(pa.array(text.map(str).where(text.notna(), None), pa.string(), from_pandas=True))
    return pa.table(arrays, names=[str(one) for one in frame.columns])


def score_part(work: ScoreSheetWork, partition: Partition) -> dict[str, int]:
    """Score the rows of one part, and leave the table beside it."""
    from sjd_dask.clinical.measures import find_measure, score

    with pa.OSFile(_path(work.folder, partition), "rb") as source, pa.ipc.open_file(source) as reader:
        frame = reader.read_all().to_pandas()
    found = score(frame, list(work.measures), definitions=work.definitions, **work.options)
    table = as_table(found, [find_measure(name) for name in work.measures])
    # A table of scores is wide and repeats itself: compressed it is some hundredths of its size.
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.OSFile(_path(work.folder, partition, "scores"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=packed) as writer,
    ):
        writer.write_table(table)
    return {"rows": table.num_rows}


def _scores(folder: str, partition: Partition) -> pa.Table:
    with pa.OSFile(_path(folder, partition, "scores"), "rb") as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


def _path(folder: str, partition: Partition, what: str = "sheet") -> str:
    return f"{folder}/{partition.index}.{what}.arrow"
