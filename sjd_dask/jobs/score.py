"""Scoring: what a frozen chain and classifier say of rows of an assay; one task reads only what these need.

A sample's numbers are its own: the same bits alone, in any batch, order, chunking, and on any worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.arrays_table import from_table, to_table
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.score_values import Collected, Watch, count_values, empty_scores, score_values
from sjd_dask.normalise.method import Arrays
from sjd_dask.normalise.restrict import Restricted, restrict
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition

if TYPE_CHECKING:
    from sjd_dask.classify.classifier import Classifier
    from sjd_dask.jobs.bundle import Bundle
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.layout import Encoding

Floats = NDArray[np.float64]
# Decoded values at a time.
BLOCK_BYTES = 16 << 20
# Raw values read at a time, all stripes together; whole chunks where they fit.
RAW_BYTES = 64 << 20
# Raw values of a task: some tenths of a second of reading.
TASK_CELLS = 48_000_000
MOST_PARTS = 512
# Blocks of decoded values that exist at a time along a chain.
BLOCKS_HELD = 5
# Beside what every worker holds: the machine code of steps and classifier, and pandas for sample columns.
METHODS_BYTES = 120 << 20


@dataclass(frozen=True)
class Stripe:
    """Neighbouring chunks of features that are read together: which of their columns go where."""

    start: int
    stop: int
    take: NDArray[np.int64]
    to: NDArray[np.int64]


def stripes(columns: NDArray[np.int64], chunk: int, n_features: int) -> list[Stripe]:
    """The chunks that hold some features.

    Parameters
    ----------
    columns : ndarray of int64, shape (m,)
        Places of the features among those stored; negative: not there.
    chunk : int
        Features of a stored chunk.
    n_features : int
        Features stored.
    """
    to = np.flatnonzero(columns >= 0)
    to = to[np.argsort(columns[to], kind="stable")]
    if not len(to):
        return []
    numbers = columns[to] // chunk
    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    found = []
    for mine in np.split(to, cuts):
        first, last = columns[mine[0]] // chunk, columns[mine[-1]] // chunk
        start, stop = int(first * chunk), int(min(n_features, (last + 1) * chunk))
        found.append(Stripe(start, stop, columns[mine] - start, mine))
    return found


@dataclass(frozen=True, eq=False)
class ScoreWork:
    """What the scoring tasks of a run share.

    Attributes
    ----------
    matrix : Matrix
        Its reader's samples are those to score; best in the order they are stored.
    columns : ndarray of int64, shape (m,)
        Place of each of `restricted.source_ids` among the reader's features; -1: not there, missing in every sample.
    restricted : Restricted
        Gives the classifier's features in its order.
    classifier : Classifier
    sheet : DataFrame
        `restricted.columns`, one row a sample in the reader's order.
    watch : Watch, optional
    """

    matrix: Matrix
    columns: NDArray[np.int64]
    restricted: Restricted
    classifier: Classifier
    sheet: pd.DataFrame
    watch: Watch | None = None

    @cached_property
    def stripes(self) -> list[Stripe]:
        """What is read of each sample."""
        reader = self.matrix.reader
        return stripes(self.columns, reader.chunk_features, reader.n_features)

    @property
    def width(self) -> int:
        """Stored features that are read of each sample."""
        return sum(one.stop - one.start for one in self.stripes)

    @property
    def read_rows(self) -> int:
        """Rows read at a time."""
        step = self.matrix.reader.chunk_samples
        fit = max(1, RAW_BYTES // max(1, self.width * self.matrix.reader.dtype.itemsize))
        return min(fit // step * step if fit >= step else fit, 4096 // step * step if step <= 4096 else 4096)

    @property
    def block_rows(self) -> int:
        """Rows decoded at a time."""
        return int(np.clip(BLOCK_BYTES // (8 * max(1, len(self.columns))), 1, 4096))

    def task_bytes(self, rows: int | None = None) -> int:
        """Most that a worker holds while it computes a task of so many samples, about."""
        rows = min(rows or self.task_rows, self.matrix.reader.n_samples)
        raw = min(rows, self.read_rows) * self.width * self.matrix.reader.dtype.itemsize
        decoded = min(self.block_rows, rows) * len(self.columns) * 8 * BLOCKS_HELD
        n_numbers = len(self.classifier.classes) * 9 + 400
        shared = self.matrix.reader.n_samples * (120 + 80 * len(self.restricted.columns))
        return PROCESS_BYTES + METHODS_BYTES + 2 * raw + decoded + rows * n_numbers + shared

    @property
    def task_rows(self) -> int:
        """Samples of a task: a function of the data alone."""
        reader = self.matrix.reader
        step = reader.chunk_samples
        rows = max(TASK_CELLS // max(1, self.width), -(-reader.n_samples // MOST_PARTS), 1)
        return max(step, rows // step * step)

    def partitions(self, rows: int | None = None) -> list[Partition]:
        """Tasks of so many samples; results don't depend on it."""
        reader, size = self.matrix.reader, rows or self.task_rows
        starts = range(0, reader.n_samples, size)
        return [
            Partition(i, 0, reader.n_features, {"samples": [start, min(reader.n_samples, start + size)]})
            for i, start in enumerate(starts)
        ]

    def blocks(self, start: int, stop: int) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Values of the chain's source features, (k, m), with the samples' places, as they come from the store."""
        chosen = self.matrix.reader.subset(np.arange(start, stop))
        matrix = Matrix(chosen, self.matrix.quantity)
        streams = [chosen.row_blocks(one.start, one.stop, rows=self.read_rows, reuse=True) for one in self.stripes]
        for parts in zip(*streams, strict=True):
            positions, _, encoding = parts[0]
            for at in range(0, len(positions), self.block_rows):
                rows = slice(at, min(len(positions), at + self.block_rows))
                yield start + positions[rows], self._taken(matrix, [raw[rows] for _, raw, _ in parts], encoding)

    @cached_property
    def _order(self) -> NDArray[np.int64] | slice | None:
        """Which columns of one stripe are wanted, in order; None where there are several stripes, or one lacks some."""
        if len(self.stripes) != 1 or (self.columns < 0).any():
            return None
        order = self.columns - self.stripes[0].start
        return slice(None) if np.array_equal(order, np.arange(self.width)) else order

    def _taken(self, matrix: Matrix, raw: list[NDArray[Any]], encoding: Encoding) -> Floats:
        """Values of the source features from raw numbers of the stripes."""
        order = self._order
        if order is not None:
            wanted = raw[0] if isinstance(order, slice) else np.take(raw[0], order, axis=1)
            return matrix.values(wanted, encoding)
        values = np.full((len(raw[0]), len(self.columns)), np.nan)
        for stripe, one in zip(self.stripes, raw, strict=True):
            values[:, stripe.to] = matrix.values(np.take(one, stripe.take, axis=1), encoding)
        return values


def score_task(work: ScoreWork, partition: Partition) -> pa.Table:
    """Score one range of samples; see `read_scores` and `read_histograms`."""
    start, stop = partition.extras["samples"]
    total = Collected(work.matrix.reader.sample_ids[start:stop], work.classifier)
    counts: NDArray[np.int64] | None = None
    for places, values in work.blocks(start, stop):
        ids = tuple(work.matrix.reader.sample_ids[i] for i in places)
        scored = score_values(work.restricted, work.classifier, values, ids, work.sheet.iloc[places], work.columns)
        total.put(places - start, scored)
        if work.watch is not None:
            found = count_values(work.watch, places, scored, work.classifier)
            counts = found if counts is None else counts + found
    groups = {"scores": total.arrays}
    if counts is not None:
        groups["histograms"] = {"features": counts}
    return to_table(groups)


def make_work(bundle: Bundle, assay: Assay, sheet: pd.DataFrame, watch: Watch | None = None) -> ScoreWork:
    """What scoring samples of an assay takes.

    Parameters
    ----------
    bundle : Bundle
    assay : Assay
        Of the cohort, or with arrivals that are not published yet.
    sheet : DataFrame
        Index: the samples to score, best in the order they are stored. With the sample columns that the chain needs.
    watch : Watch, optional
        In the sheet's order.

    Raises
    ------
    SpecError
        The chain needs a sample column that isn't there.
    DataError
        Another platform; or an assay without these samples.
    """
    restricted = restricted_chain(bundle)
    columns = place_features(bundle, restricted, assay.name, assay.quantity, assay.feature_ids())
    matrix = Matrix(assay.reader(list(sheet.index)), restricted.source_scale)
    return ScoreWork(matrix, columns, restricted, bundle.classifier, chain_sheet(restricted, sheet), watch)


def restricted_chain(bundle: Bundle) -> Restricted:
    """The bundle's chain for the features that its classifier takes.

    Raises
    ------
    SpecError
        The chain leaves out values by companion assays, such as detection p-values.
    """
    if bundle.chain is not None and bundle.chain.masks:
        raise SpecError(
            "the model's chain takes values for missing where a companion assay says so "
            f"({', '.join(bundle.chain.masks)}), and classification reads one assay: train on a layer without masks"
        )
    return restrict(bundle.chain, bundle.classifier.features, str(bundle.platform["scale"]))


def chain_sheet(restricted: Restricted, sheet: pd.DataFrame) -> pd.DataFrame:
    """The sample columns that the chain needs.

    Raises
    ------
    SpecError
        Naming those that aren't there.
    """
    absent = [name for name in restricted.columns if name not in sheet]
    if absent:
        there = ", ".join(map(str, sheet.columns[:20])) or "none"
        raise SpecError(
            f"the model's chain needs the sample column {', '.join(map(repr, absent))} of every sample; there are: "
            f"{there}. Add it with `sjd samples`"
        )
    return sheet[list(restricted.columns)]


def place_features(
    bundle: Bundle, restricted: Restricted, name: str, quantity: str, feature_ids: NDArray[Any]
) -> NDArray[np.int64]:
    """Where the source features that are needed stand among others; -1 for those that are not there.

    Raises
    ------
    DataError
        Another platform (see `Bundle.check_features`), or a feature is absent and a step looks at whole samples.
    """
    bundle.check_features(name, quantity, feature_ids)
    found = pd.Index(np.asarray(feature_ids, dtype=object)).get_indexer(pd.Index(restricted.source_ids, dtype=object))
    absent = restricted.source_ids[found < 0]
    if len(absent) and restricted.needs_all:
        assert bundle.chain is not None
        raise DataError(
            f"the model's chain ({bundle.chain.text}) looks at whole samples, so none of its "
            f"{len(restricted.source_ids):,} features may be absent, and {name!r} lacks {len(absent):,}: "
            f"{', '.join(repr(str(one)) for one in absent[:5])}{', ...' if len(absent) > 5 else ''}. Take data of the "
            "whole platform, or train on a layer whose steps treat each feature by itself"
        )
    places: NDArray[np.int64] = found.astype(np.int64)
    return places


def read_scores(parts: Iterable[pa.Table], classes: Sequence[str]) -> pd.DataFrame:
    """The parts of scoring tasks as one table.

    Returns
    -------
    DataFrame
        Index sample ids, in the order of the parts; ``status``, ``reason``, ``top`` (number of the class, -1),
        ``confidence``, ``ood_score``, ``n_missing`` (-1: not looked at), and ``p_<class>``, ``set_<class>`` for each
        class.
    """
    return scores_frame([from_table(part)["scores"] for part in parts], classes)


def scores_frame(found: Sequence[Arrays], classes: Sequence[str]) -> pd.DataFrame:
    """The same from arrays of `Collected`."""
    none = {names.SAMPLE_ID: np.empty(0, dtype=object), **empty_scores(0, len(classes))}
    whole = {name: np.concatenate([one[name] for one in found]) if found else none[name] for name in none}
    data: dict[str, Any] = {
        name: whole[name] for name in ("status", "reason", "top", "confidence", "ood_score", "n_missing")
    }
    for k, name in enumerate(classes):
        data[f"{names.PROBABILITY}{name}"] = whole["probabilities"][:, k]
    for k, name in enumerate(classes):
        data[f"set_{name}"] = whole["conformal"][:, k]
    return pd.DataFrame(data, index=pd.Index(whole[names.SAMPLE_ID], name=names.SAMPLE_ID, dtype=object))


def read_histograms(parts: Iterable[pa.Table]) -> NDArray[np.int64] | None:
    """Counts of all parts together, (n_groups, p, bins + 1); None where nothing was watched."""
    total: NDArray[np.int64] | None = None
    for part in parts:
        counts = from_table(part).get("histograms", {}).get("features")
        if counts is not None:
            total = counts.copy() if total is None else total + counts
    return total
