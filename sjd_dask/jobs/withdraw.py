"""Withdrawing people: which stored numbers are copies of one person's, and what becomes of them.

Means, sums and fitted coefficients over many people stay. A reference sample's counts, the profile of a group of one,
or a plate's centre from one sample are that person's own values: they are erased, and whatever needs them is blocked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import SjdError, SpecError
from sjd_dask.normalise.chain import KEPT_HASH
from sjd_dask.store.arrays import Arrays
from sjd_dask.store.catalogue.results import ResultRecord
from sjd_dask.store.catalogue.tombstones import keyed_hash
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.layer import LAYERS
from sjd_dask.store.withdraw.ids import REPLACEMENT, Leaving, read_ids
from sjd_dask.store.withdraw.rules import Verdict
from sjd_dask.store.withdraw.run import EXPIRE_HOURS, Order, WithdrawReport
from sjd_dask.store.withdraw.run import withdraw as withdraw_ids

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

_REFERENCE = "reference_sample"
# Options that choose the samples of a step's target, and the parameter that is made of them.
_TARGET, _TARGET_OPTION = "target", "target_samples"
# Steps with parameters for each of several groups of samples: option with the column, levels, their sizes.
_GROUPS = (("plate", "plates", "n_samples"), ("batch", "batch_levels", "batch_size"))


def withdraw(
    cohort: Cohort,
    ids: Sequence[str],
    order: Order | None = None,
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> WithdrawReport:
    """Take people out of a cohort. See `store.withdraw.run.withdraw`."""
    return withdraw_ids(cohort, ids, CopyRules(cohort.samples()), order, dry_run=dry_run, progress=progress)


class CopyRules:
    """Finds copies of one person's values in parameters, companion tables and models.

    Parameters
    ----------
    samples : DataFrame
        Sample columns of everybody, index sample id: they tell who was on which plate.
    """

    def __init__(self, samples: pd.DataFrame) -> None:
        self._samples = samples
        # Of layers that are blocked now: arrays that were erased, which a model's chain holds too.
        self._erased: list[NDArray[Any]] = []

    # -- parameters ------------------------------------------------------------------------------------------------

    def arrays(self, result: ResultRecord, arrays: Arrays, leaving: Leaving) -> Verdict:
        """Parameters of a chain without the ids, under the hash they had."""
        if result.kind != LAYERS:
            return self._plain(arrays, leaving)
        reference = [str(one) for one in arrays.arrays[_REFERENCE].tolist()]
        stay = [one for one in reference if one not in leaving.ids]
        made, blocked = dict(arrays.arrays), []
        steps = list(arrays.attrs["steps"])
        for i, options in enumerate(steps):
            head = f"step{i}.{options['method']}."
            mine = {name.removeprefix(head): value for name, value in made.items() if name.startswith(head)}
            gone, why = _copies(options, mine, leaving, bool(stay))
            for name in gone:
                self._erased.append(mine[name])
                made[head + name] = np.zeros_like(mine[name])
            for group, at in self._alone(options, mine, [one for one in reference if one in leaving.ids]):
                why.append(f"held the values of the one sample of {group!r}, which left")
                for name, value in mine.items():
                    if value.dtype.kind == "f" and value.ndim == 2 and len(value) > at:
                        self._erased.append(value)
                        made[head + name] = np.where(np.arange(len(value))[:, None] == at, 0.0, made[head + name])
            for name, value in mine.items():
                if value.dtype.kind == "U":
                    made[head + name] = _without(value, leaving, of_samples=name == _REFERENCE)
            blocked += [f"step `{options['method']}` {text}" for text in why]
        if not stay:
            blocked.append("everybody it was fitted on withdrew")
        attrs = leaving.scrub_json(arrays.attrs)
        if len(stay) == len(reference) and not blocked and attrs == arrays.attrs:
            return Verdict()
        made[_REFERENCE] = np.array(stay) if stay else np.empty(0, dtype="U1")
        # The catalogue knows these parameters by the hash they had with everybody.
        return Verdict((made, {**attrs, KEPT_HASH: result.meta["parameters_hash"]}), blocked)

    def _alone(
        self, options: dict[str, Any], parameters: dict[str, NDArray[Any]], gone: list[str]
    ) -> list[tuple[str, int]]:
        """Plates or batches of a step whose only sample leaves: their names and places."""
        for option, levels, sizes in _GROUPS:
            if option in options and levels in parameters and sizes in parameters:
                names_, count = parameters[levels].astype(str).tolist(), parameters[sizes].tolist()
                here = self._samples.reindex(gone).get(options[option], pd.Series(dtype=object)).astype(str).tolist()
                return [(name, i) for i, name in enumerate(names_) if count[i] == 1 and name in here]
        return []

    def _plain(self, arrays: Arrays, leaving: Leaving) -> Verdict:
        made = {
            name: _without(value, leaving, of_samples="sample" in name) if value.dtype.kind == "U" else value
            for name, value in arrays.arrays.items()
        }
        attrs = leaving.scrub_json(arrays.attrs)
        same = attrs == arrays.attrs and all(np.array_equal(made[name], value) for name, value in arrays.arrays.items())
        return Verdict() if same else Verdict((made, attrs))

    # -- tables ----------------------------------------------------------------------------------------------------

    def table(self, result: ResultRecord, name: str, read: Callable[[str], Any], leaving: Leaving) -> Verdict:
        """Mean profiles of groups in which nobody is left."""
        if result.kind != names.STRATA or name != "centroids":
            return Verdict()
        groups = read("table").select([names.SAMPLE_ID, "stratum"]).to_pydict()
        pairs = list(zip(groups[names.SAMPLE_ID], groups["stratum"], strict=True))
        left = {group for sample, group in pairs if sample not in leaving.samples}
        empty = sorted({group for sample, group in pairs if sample in leaving.samples} - left)
        table = read(name)
        columns = [f"mean_{group}" for group in empty if f"mean_{group}" in table.column_names]
        if not columns:
            return Verdict()
        return Verdict(
            table.drop_columns(columns),
            [f"the mean profile of group {one} was that of people who withdrew alone" for one in empty],
        )

    # -- models ----------------------------------------------------------------------------------------------------

    def bundle(self, result: ResultRecord, blobs: dict[str, bytes], leaving: Leaving, key: bytes) -> Verdict:
        """Whether they trained a model, by its record of hashes, and whether its chain copies one of them."""
        from sjd_dask.jobs.bundle import CHAIN, RECORD, pack, unpack

        trained = False
        if RECORD in blobs:
            record = unpack(blobs[RECORD])
            for part, ids in (("samples", leaving.samples), ("persons", leaving.persons)):
                hashes = set(record.get(part, np.empty(0, dtype="U1")).tolist())
                trained = trained or any(keyed_hash(key, one) in hashes for one in ids)
        if CHAIN not in blobs or not self._erased:
            return Verdict(trained=trained)
        arrays = unpack(blobs[CHAIN])
        copied = [name for name, value in arrays.items() if any(_same(value, one) for one in self._erased)]
        if not copied:
            return Verdict(trained=trained)
        made = {name: np.zeros_like(value) if name in copied else value for name, value in arrays.items()}
        steps = sorted({name.split(".")[1] for name in copied})
        why = [f"step `{one}` of its normalisation held values of somebody who withdrew" for one in steps]
        return Verdict({**blobs, CHAIN: pack(made)}, why, trained)


def _copies(
    options: dict[str, Any], parameters: dict[str, NDArray[Any]], leaving: Leaving, somebody: bool
) -> tuple[list[str], list[str]]:
    """Parameters of a step that are one person's values, and why."""
    numbers = [name for name, value in parameters.items() if value.dtype.kind == "f" and value.ndim]
    if not somebody:
        return numbers, []
    found: list[str] = []
    why: list[str] = []
    if _REFERENCE in parameters and str(parameters[_REFERENCE]) in leaving.ids:
        found += [name for name in parameters if name.startswith("reference_") and name != _REFERENCE]
        why.append("held the values of one sample as its reference, and that sample left")
    target = options.get(_TARGET_OPTION)
    if target and leaving.ids.issuperset(map(str, target)):
        found.append(_TARGET)
        why.append("has a target made of samples that all left")
    return found, why


def _without(values: NDArray[Any], leaving: Leaving, *, of_samples: bool) -> NDArray[Any]:
    own = leaving.ids if of_samples else leaving.plain
    flat = [REPLACEMENT if str(one) in own else str(one) for one in values.ravel().tolist()]
    return np.array(flat).reshape(values.shape) if flat else values


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    # A scalar may be equal by chance.
    return one.ndim > 0 and one.shape == other.shape and one.dtype.kind == "f" and bool(np.array_equal(one, other))


def matrix_ids(path: Path) -> list[str]:
    """Sample ids of a matrix file, for searching an inbox; none where it can't be read."""
    from sjd_dask.store.ingest.sources import SourceOptions, open_source

    try:
        with open_source(path, SourceOptions()) as source:
            ids: Iterable[str] = [*(source.sample_ids or []), *source.minor_ids, *(source.major_ids or [])]
            return list(ids)
    except (SjdError, OSError, ValueError, KeyError):
        return []


def withdraw_file(
    cohort: str | Path,
    ids: Path,
    *,
    person: str = names.PERSON_ID,
    id_columns: Sequence[str] = (),
    inboxes: Sequence[Path] = (),
    expire_hours: float = EXPIRE_HOURS,
    allow_unknown: bool = False,
    who: str | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> WithdrawReport:
    """Withdraw the ids of a file, one a line; ``-`` is standard input.

    Raises
    ------
    SpecError
        There is no such file, or no such inbox.
    """
    opened = open_cohort(cohort)
    try:
        text = sys.stdin.read() if str(ids) == "-" else ids.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the list of ids {ids} cannot be read: {error}; nobody was withdrawn") from error
    for one in inboxes:
        if not one.is_dir():
            raise SpecError(f"the inbox {one} is not a folder; nobody was withdrawn")
    known = [Path(one) for one in night_inboxes(opened)]
    order = Order(
        person=person,
        id_columns=tuple(id_columns),
        allow_unknown=allow_unknown,
        expire_hours=expire_hours,
        inboxes=tuple(dict.fromkeys(one.resolve() for one in [*inboxes, *known] if one.is_dir())),
        matrix_ids=matrix_ids,
        who=who,
    )
    return withdraw(opened, read_ids(text.splitlines()), order, dry_run=dry_run, progress=progress)


def night_inboxes(cohort: Cohort) -> list[str]:
    """Inboxes of the nights that ran, as far as their specs say where they are."""
    found = [run.spec.get("inbox") for run in cohort.runs() if run.job == "nightly"]
    return [str(one) for one in dict.fromkeys(found) if one and Path(str(one)).is_absolute()]
