"""The inbox: which files have arrived, what they bring, and where they go afterwards.

Nothing is moved before a night is published. A night that dies leaves the inbox as it was; one that dies after its
publication finds its files again by name and digest, and only moves them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sjd_dask import names
from sjd_dask.errors import Busy, DataError, SpecError
from sjd_dask.store.files import writing
from sjd_dask.store.ingest import read_sheet

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

DONE, QUARANTINE = "done", "quarantine"
_SHEETS = (".samples.csv", ".samples.tsv", ".samples.txt", ".samples.csv.gz", ".samples.tsv.gz", ".samples.parquet")
# Names that copying programs give to files which aren't complete.
_PARTIAL = (".part", ".partial", ".tmp", ".filepart", ".crdownload", "~")


@dataclass(frozen=True)
class InboxFile:
    """One arrival.

    Attributes
    ----------
    path : Path
        A file, or a folder (a Zarr group).
    assay : str
    is_sheet : bool
    digest : str
        blake2b-128 of the content.
    """

    path: Path
    assay: str
    is_sheet: bool
    digest: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name


@dataclass
class Listing:
    """What lies in an inbox: files to read, and with the reason files that can't be and files that wait."""

    files: list[InboxFile] = field(default_factory=list)
    refused: list[tuple[InboxFile, str]] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Arrivals:
    """What a night makes of its inbox.

    Attributes
    ----------
    staged : list
        Written segments that are not published yet.
    sheets : list of DataFrame
        Sample columns, those that win last.
    took : list of InboxFile
        Files that the night brings in.
    left_out : list of InboxFile
        The same, but they hold samples of withdrawn people: nothing of these is kept, so the files are removed.
    known : list of InboxFile
        Files whose content is there already.
    refused : list of (InboxFile, str)
        Files for the quarantine, and why.
    waiting : list of (str, str)
        Files that stay where they are, and why.
    left : dict of str to str
        Samples of tonight's sheets whose person withdrew.
    matrices, tables : list of dict
        What each matrix and each sheet brought, in counts, for the night's report.
    """

    staged: list[Any] = field(default_factory=list)
    sheets: list[pd.DataFrame] = field(default_factory=list)
    took: list[InboxFile] = field(default_factory=list)
    left_out: list[InboxFile] = field(default_factory=list)
    known: list[InboxFile] = field(default_factory=list)
    refused: list[tuple[InboxFile, str]] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    matrices: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)

    @property
    def files(self) -> list[list[str]]:
        """Names and digests of the files that the night takes in, as the next night looks them up."""
        return sorted([file.name, file.digest] for file in (*self.took, *self.known))

    def facts(self) -> dict[str, Any]:
        """What the night's report says of the inbox."""
        return {
            "arrivals": self.matrices,
            "sheets": self.tables,
            "quarantined": [{"file": file.name, "reason": reason} for file, reason in self.refused],
            "waiting": [name for name, _ in self.waiting],
        }


def list_inbox(folder: Path, assays: Sequence[str], settle_seconds: float = 0.0) -> Listing:
    """What lies in an inbox, by name; nothing but the bytes is read.

    Hidden files, unfinished copies and the folders `done` and `quarantine` are not arrivals. What can't be read (a link
    that leads nowhere, a file that is taken away meanwhile, a pipe) waits, and stops nothing else.

    Raises
    ------
    SpecError
        There is no such folder.
    """
    check_folder(folder)
    found = Listing()
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        name = path.name
        if name.startswith(".") or name.lower().endswith(_PARTIAL) or name in (DONE, QUARANTINE):
            continue
        if path.is_dir() and not name.lower().endswith(".zarr"):
            continue
        assay, separator, _ = name.partition("__")
        try:
            status = path.stat()
            if 0 <= time.time() - status.st_mtime < settle_seconds:
                found.waiting.append((name, "it changed a moment ago"))
                continue
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                found.waiting.append((name, "it is neither a file nor a folder"))
                continue
            file = InboxFile(path, assay if separator else "", name.lower().endswith(_SHEETS), digest(path))
        except OSError as error:
            found.waiting.append((name, f"it can't be read ({error.strerror or error})"))
            continue
        if not separator or not assay:
            reason = "its name doesn't say the assay: a matrix is called ASSAY__ANYTHING.FORMAT, a sample sheet "
            found.refused.append((file, reason + "ASSAY__ANYTHING.samples.csv"))
        elif assay not in assays:
            known = ", ".join(map(repr, assays)) or "none"
            reason = f"the cohort has no assay {assay!r}; it has: {known}. A new assay is begun by `sjd ingest`"
            found.refused.append((file, reason))
        else:
            found.files.append(file)
    return found


def check_folder(folder: Path) -> None:
    """Refuse an inbox that isn't there.

    Raises
    ------
    SpecError
        It is no folder.
    """
    if not folder.is_dir():
        raise SpecError(f"`inbox: {folder}` is not a folder; make it, or leave the key out")


def digest(path: Path) -> str:
    """blake2b-128 of a file, or of all files of a folder with their names."""
    made = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        for one in sorted(inner for inner in path.rglob("*") if inner.is_file()):
            made.update(f"{one.relative_to(path).as_posix()}\n{digest(one)}\n".encode())
        return made.hexdigest()
    with path.open("rb") as opened:
        while piece := opened.read(1 << 20):
            made.update(piece)
    return made.hexdigest()


def take_in(cohort: Cohort, listing: Listing, done_before: Iterable[tuple[str, str]]) -> Arrivals:
    """Read every file: segments are written but not published, sheets are checked. One bad file stops no other.

    Parameters
    ----------
    cohort : Cohort
    listing : Listing
    done_before : iterable of (name, digest)
        Files of the last published night: what is still here was not moved any more.

    Raises
    ------
    SjdError
        Storage refused; the staged segments were given up.
    """
    made, before = Arrivals(), set(done_before)
    made.waiting += listing.waiting
    for file, reason in listing.refused:
        made.refused.append((file, reason))
    fresh = []
    for file in listing.files:
        if (file.name, file.digest) in before:
            made.known.append(file)
        else:
            fresh.append(file)
    try:
        _read_sheets(cohort, [file for file in fresh if file.is_sheet], made)
        for file in fresh:
            if not file.is_sheet:
                _stage(cohort, file, made)
    except BaseException:
        give_up(cohort, made)
        raise
    return made


def give_up(cohort: Cohort, arrivals: Arrivals) -> None:
    """Remove segments that were written and will not be published."""
    for staged in arrivals.staged:
        cohort.abandon(staged.arrival.staging_id)
    arrivals.staged = []


def _read_sheets(cohort: Cohort, files: Sequence[InboxFile], made: Arrivals) -> None:
    known = cohort.samples() if files else pd.DataFrame()
    for file in files:
        try:
            sheet = read_sheet(file.path)
            _check_types(sheet, known, file.path)
        except (DataError, SpecError) as error:
            made.refused.append((file, str(error)))
            continue
        kept = without_withdrawn(cohort, sheet)
        if names.PERSON_ID in sheet:
            gone = sheet[names.PERSON_ID].drop(index=kept.index)
            made.left |= {str(one): str(person) for one, person in gone.items() if pd.notna(person)}
        _took(made, file, len(sheet) - len(kept))
        made.tables.append({"file": file.name, "n_samples": len(kept), "n_withdrawn": len(sheet) - len(kept)})
        sheet = kept
        if len(sheet):
            made.sheets.append(sheet)


def without_withdrawn(cohort: Cohort, sheet: pd.DataFrame) -> pd.DataFrame:
    """The sheet without withdrawn samples, and without samples of withdrawn persons."""
    left = cohort.withdrawn_samples([str(one) for one in sheet.index], sheet)
    keep = [str(one) not in left for one in sheet.index]
    return sheet[keep]


def _check_types(sheet: pd.DataFrame, known: pd.DataFrame, path: Path) -> None:
    """Refuse words in a column of numbers: it would become text for the whole cohort, and queries would fail."""
    for name in sheet.columns:
        if name not in known or not len(known[name].dropna()):
            continue
        numbers = pd.api.types.is_numeric_dtype(known[name].infer_objects())
        if not numbers or not sheet[name].notna().any() or pd.api.types.is_numeric_dtype(sheet[name]):
            continue
        words = pd.to_numeric(sheet[name], errors="coerce").isna() & sheet[name].notna()
        sample = str(words.idxmax())
        raise DataError(
            f"{path}: the column {name!r} holds numbers in this cohort, and {sheet.loc[sample, name]!r} for sample "
            f"{sample!r}. Write a number or leave the cell empty."
        )


def _stage(cohort: Cohort, file: InboxFile, made: Arrivals) -> None:
    from sjd_dask.store.ingest.pipeline import stage

    beside = [one.arrival for one in made.staged]
    try:
        staged = stage(cohort, file.assay, file.path, replace=True, beside=beside)
        if staged.arrival is not None and (left := made.left.keys() & set(staged.arrival.record.sample_ids)):
            # Tonight's sheet says that these are samples of people who withdrew.
            cohort.abandon(staged.arrival.staging_id)
            persons = pd.DataFrame({names.PERSON_ID: {one: made.left[one] for one in sorted(left)}}, dtype=object)
            staged = stage(cohort, file.assay, file.path, replace=True, beside=beside, samples=persons)
    except (DataError, SpecError) as error:
        made.refused.append((file, str(error)))
        return
    except Busy as error:
        made.waiting.append((file.name, str(error)))
        return
    report = staged.report
    made.matrices.append(
        {
            "file": file.name,
            "assay": file.assay,
            "n_new": len(report.new),
            "n_replaced": len(report.replaced),
            "n_unchanged": len(report.unchanged),
            "n_withdrawn": report.n_withdrawn,
        }
    )
    if staged.columns is not None:
        columns = without_withdrawn(cohort, staged.columns)
        if len(columns):
            made.sheets.insert(0, columns)
    if staged.arrival is not None:
        made.staged.append(staged)
    _took(made, file, report.n_withdrawn)


def _took(made: Arrivals, file: InboxFile, n_withdrawn: int) -> None:
    (made.left_out if n_withdrawn else made.took).append(file)


# -- afterwards --------------------------------------------------------------------------------------------------------


def put_away(folder: Path, arrivals: Arrivals) -> None:
    """Move the files of a night to `done` and `quarantine`, where each refused one lies beside its reason. Files that
    hold samples of withdrawn people are removed."""
    for file in arrivals.left_out:
        with writing(str(folder), "the night is published, and a file of withdrawn people stays in the inbox"):
            _remove(file.path)
    for file in [*arrivals.took, *arrivals.known]:
        _move(file, folder / DONE)
    for file, reason in arrivals.refused:
        target = folder / QUARANTINE
        with writing(str(target), "the night is published, and its files stay in the inbox"):
            target.mkdir(exist_ok=True)
            name = _free_name(target, file)
            # First the reason: a file in the quarantine is never without one.
            (target / f"{name}.reason.txt").write_text(f"{file.name} was not taken in.\n\n{reason}\n", encoding="utf-8")
        _move(file, target, name)


def _move(file: InboxFile, target: Path, name: str | None = None) -> None:
    with writing(str(target), "the night is published, and its files stay in the inbox"):
        target.mkdir(exist_ok=True)
        goal = target / (name or _free_name(target, file))
        if goal.exists():
            _remove(file.path)
        elif file.path.exists():
            os.replace(file.path, goal)


def _free_name(target: Path, file: InboxFile) -> str:
    """A name under which nothing else lies there: its own, or with a number in front of the ending."""
    stem, dot, ending = file.name.partition(".")
    number, name = 1, file.name
    while (target / name).exists() and digest(target / name) != file.digest:
        number += 1
        name = f"{stem}.{number}{dot}{ending}"
    return name


def _remove(path: Path) -> None:
    if path.is_dir():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
