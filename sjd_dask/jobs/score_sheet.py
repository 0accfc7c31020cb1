"""`sjd score`: a clinical sheet in, a table of scores out.

Small sheets are scored in this process. Large ones are cut by rows, or by persons where a measure looks at a person's
other visits, and go over Dask; every row gets the same bits either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, definition_names, did_you_mean
from sjd_dask.clinical.measures import MEASURES, Measure, computable, find_measure, require_columns, score
from sjd_dask.clinical.response import RESPONSES, left_out_tests
from sjd_dask.clinical.visits import rows_asked
from sjd_dask.errors import SpecError
from sjd_dask.jobs.clinical_sheet import open_sheet
from sjd_dask.jobs.score_models import prepare
from sjd_dask.jobs.score_summary import Summary
from sjd_dask.jobs.score_table import as_table, declared
from sjd_dask.jobs.table_writer import PARQUET_ENDINGS, check_writable, table_writer, write_json

if TYPE_CHECKING:
    import pyarrow as pa

    from sjd_dask.clinical.sheet import Sheet
    from sjd_dask.runtime.cluster import Cluster
    from sjd_dask.runtime.here import Here

ALL = "all"
# Fewer cells of scores (200,000 rows of all measures, 3.6 million of ESSDAI) are made before worker processes could
# start.
CELLS_HERE = 40_000_000


@dataclass(frozen=True)
class Scored:
    """What `score_sheet` did.

    Attributes
    ----------
    files : list of str
        What was written, the scores first.
    n_rows : int
    measures : list of str
    summary : dict
        See `score_summary.summarise`.
    notes, warnings : list of str
    """

    files: list[str]
    n_rows: int
    measures: list[str]
    summary: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "file": self.files[0],
            "files": self.files,
            "n_rows": self.n_rows,
            "measures": {name: self.summary[name] for name in self.measures},
            "notes": self.notes,
            "warnings": self.warnings,
        }


def score_sheet(
    path: Path | str,
    out: Path | str,
    *,
    measures: Sequence[str],
    mapping: Path | str | None = None,
    units: Mapping[str, str] | None = None,
    definitions: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    reference: Path | str | None = None,
    save_reference: Path | str | None = None,
    model: Path | str | None = None,
    fit: Path | str | None = None,
    cluster: str | Path | Cluster | Here = "local",
    workers: int | None = None,
    partition_rows: int | None = None,
) -> Scored:
    """Score a clinical sheet and write the table.

    Parameters
    ----------
    path : path or URL
        The sheet: a file, a folder of Parquet parts, or a cohort (its sample sheet).
    out : path
        ``.csv``, ``.tsv`` (also ``.gz``), ``.parquet`` or ``.json``.
    measures : sequence of str
        Names of `clinical.MEASURES`; ``all``: every one of which the sheet has a column.
    mapping : path, optional
        Mapping file of a sheet with other column names.
    units : mapping, optional
        Unit by column.
    definitions : mapping, optional
        Definition -> YAML file (or mapping) laid over the shipped one.
    options : mapping, optional
        Options of the measures (``domains``, ``baseline``, ...); each goes to the measures that take it.
    reference : path, optional
        Reference cohort of the axes, as `save_reference` writes it. Default: the sheet itself.
    save_reference : path, optional
        Where the reference that was used is kept, JSON.
    model : path, optional
        Model of a measure that wants one (``nsst``, ``integrated``).
    fit : path, optional
        Fit that model on the sheet, use it, and keep it there, JSON.
    cluster, workers
        Where a large sheet is scored. Less than `CELLS_HERE` cells of scores are made in this process unless another
        cluster than ``local`` or a number of workers is given.
    partition_rows : int, optional
        Rows of a partition, about. Results don't depend on it.

    Returns
    -------
    Scored

    Raises
    ------
    SpecError
        An unknown measure, option, definition, unit or column; a sheet that has nothing a measure needs; an ending of
        `out` that names no format.
    DataError
        A sheet that can't be read, or a value that isn't allowed or plausible: names sample and column. Nothing is
        written.
    """
    target = Path(out)
    check_writable(target)
    _check_apart(path, target, {"--save-reference": save_reference, "--fit": fit})
    asked = [] if ALL in measures else [find_measure(name) for name in measures]
    opened = open_sheet(path, mapping=mapping, units=units, definitions=definitions)
    sheet = opened.read()
    notes = list(opened.notes)
    chosen = list({one.name: one for one in asked or _every(sheet, notes)}.values())
    for one in chosen:
        require_columns(sheet, one.needs, one.name)
    partitioned = sheet.n > 1 and (
        sheet.n * len(declared(chosen)) >= CELLS_HERE
        or partition_rows is not None
        or workers is not None
        or cluster != "local"
    )
    summary = Summary(chosen)
    with ExitStack() as stack:
        if partitioned:
            from sjd_dask.jobs.score_partitions import score_in_partitions, starting

            running = stack.enter_context(starting(cluster, workers))
        prepared = prepare(
            opened, sheet, chosen, dict(options or {}), Path(str(path)).name, reference, save_reference, model, fit,
            partitioned=partitioned,
        )  # fmt: skip
        given = _checked_options(chosen, prepared.options)
        write = stack.enter_context(table_writer(target))

        def take(table: pa.Table) -> None:
            summary.add(table)
            write(table)

        if partitioned:
            score_in_partitions(opened, sheet, chosen, given, target, take, running, partition_rows)
        else:
            found = score(sheet, [one.name for one in chosen], definitions=opened.definitions, **given)
            take(as_table(found, chosen))
    for file, content in prepared.files.items():
        write_json(content, file)
    return Scored(
        [str(target), *map(str, prepared.files)],
        summary.n_rows,
        [one.name for one in chosen],
        summary.result(),
        [*notes, *prepared.notes],
        [
            *prepared.warnings,
            *_no_baselines(sheet, given),
            *_not_planned(sheet, chosen, opened.definitions),
            *_near_misses(sheet),
        ],
    )


def _check_apart(path: Path | str, target: Path, others: Mapping[str, Path | str | None]) -> None:
    """Refuse to write over the sheet or among its parts, or two things into one file."""
    files = {"OUT": target.resolve(), **{name: Path(one).resolve() for name, one in others.items() if one is not None}}
    taken = {Path(str(path)).resolve(): "SHEET"}
    folder = files["OUT"].parent
    if folder in taken and target.suffix.lower() in PARQUET_ENDINGS and not (folder / "cohort.toml").is_file():
        raise SpecError(f"{target} would be one more part of the sheet {path}: name a file in another folder")
    for name, file in files.items():
        if file in taken:
            raise SpecError(f"{taken[file]} and {name} are the same file, {file}: give {name} a name of its own")
        taken[file] = name


def _every(sheet: Sheet, notes: list[str]) -> list[Measure]:
    found = [MEASURES[name] for name in computable(sheet)]
    if not sheet.has(names.PERSON_ID) and (over := [one.name for one in found if one.by_person]):
        notes.append(f"no person_id: {', '.join(over)} left out, which compare the visits of a person")
        found = [one for one in found if not one.by_person]
    if not found:
        near = "".join(f"; {text}" for text in _near_misses(sheet)[:5])
        raise SpecError(f"the sheet has none of the columns that a measure reads{near}. A mapping file gives its names")
    return found


def _checked_options(chosen: Sequence[Measure], options: dict[str, Any]) -> dict[str, Any]:
    taken = {name for one in chosen for name in one.options}
    for name in options:
        if name not in taken:
            measures = ", ".join(one.name for one in chosen)
            raise SpecError(
                f"none of {measures} takes an option {name!r}{did_you_mean(name, taken)}; options here: "
                f"{', '.join(sorted(taken)) or 'none'}"
            )
    return options


def _not_planned(sheet: Sheet, chosen: Sequence[Measure], definitions: Overrides | None) -> list[str]:
    """Responses that are judged by some of their tests, since the sheet has no column for the others."""
    found = []
    for one in chosen:
        if one.name in RESPONSES and (left := left_out_tests(sheet, one.name, definitions)):
            domains = ", ".join(dict.fromkeys(left.values()))
            found.append(
                f"{one.name}: the sheet has no column for {', '.join(left)}; {domains} judged without (a definition "
                f"with `unplanned: {{test: unknown}}` leaves it open)"
            )
    return found


def _no_baselines(sheet: Sheet, options: Mapping[str, Any]) -> list[str]:
    query = options.get("baseline")
    if query is None or rows_asked(sheet.frame, query).any():
        return []
    return [f"no row is a baseline by {query!r}: nothing is compared. Values are as the sheet has them"]


def _near_misses(sheet: Sheet) -> list[str]:
    """Columns that were not read and whose names are nearly a known one."""
    return [f"column {header!r} was not read{hint}" for header, hint in sheet.unknown.items() if hint]


def definition_files(given: Sequence[str]) -> dict[str, Path]:
    """Definitions of the command line: ``NAME=FILE``, or a file that is called as the definition.

    Raises
    ------
    SpecError
        Neither tells which definition it is.
    """
    found: dict[str, Path] = {}
    for one in given:
        name, separator, file = one.partition("=")
        path = Path(file if separator else one)
        name = (name if separator else path.stem).strip().replace("-", "_")
        if name not in definition_names():
            raise SpecError(
                f"--definition {one!r}: no definition is called {name!r}{did_you_mean(name, definition_names())}; "
                f"write NAME=FILE, where NAME is one of {', '.join(definition_names())}"
            )
        if name in found:
            raise SpecError(f"--definition: {name!r} is given twice")
        found[name] = path.absolute()
    return found


def unit_pairs(given: Sequence[str]) -> dict[str, str]:
    """Units of the command line, ``column=unit``.

    Raises
    ------
    SpecError
        One is written otherwise.
    """
    found: dict[str, str] = {}
    for one in given:
        name, separator, unit = one.partition("=")
        if not separator or not name.strip() or not unit.strip():
            raise SpecError(f"--units {one!r}: write it as column=unit, such as igg=mg/dL")
        found[name.strip()] = unit.strip()
    return found


def option_pairs(given: Sequence[str]) -> dict[str, Any]:
    """Options of the command line, ``name=value``; the value is YAML.

    Raises
    ------
    SpecError
        One is written otherwise.
    """
    found: dict[str, Any] = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not name.strip():
            raise SpecError(f"--option {one!r}: write it as name=value, such as laboratory=use")
        try:
            found[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SpecError(f"--option {one!r}: the value is not valid YAML: {error}") from None
    return found
