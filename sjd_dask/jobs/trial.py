"""`sjd trial`: from a protocol to tables. Every section is computed before the first file is written."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.trials.protocol import Protocol, ReanalysisSpec, parse_protocol, protocol_rules
from sjd_dask.errors import SpecError
from sjd_dask.jobs.sheet_files import read_table, write_table
from sjd_dask.jobs.spec import read_yaml, resolve_path
from sjd_dask.jobs.trial_persons import Screened, read_calls, screened_persons, wanted_columns
from sjd_dask.store.files import writing

if TYPE_CHECKING:
    from sjd_dask.clinical.trials.eligibility import Eligibility, Rule

JSON, PAGE, LISTS = "trial.json", "trial.html", "randomisation"
CONCEALMENT = (
    "The list tells who gets what before anyone is enrolled: keep randomisation.csv and the seed with someone who "
    "neither enrols nor assesses, and give out one number at a time after a person's consent and eligibility."
)


@dataclass(frozen=True)
class Trial:
    """What a protocol gave.

    Attributes
    ----------
    protocol : Protocol
    tables : dict of str to DataFrame
        By the name of their file, without the ending; see docs/trials.md for their columns.
    facts : dict
        What `trial.json` holds: counts, tests, notes; neither an allocation nor the seed of the lists.
    notes : list of str
    """

    protocol: Protocol
    tables: dict[str, pd.DataFrame]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def read_protocol(path: str | Path, overrides: list[str] | None = None) -> tuple[Protocol, Path]:
    """A checked protocol, and the folder its relative paths start from.

    Raises
    ------
    SpecError
        A file that can't be read, an unknown key, a value that is refused.
    """
    raw = read_yaml(path, overrides, "such as `name: my_trial`")
    return parse_protocol(raw, str(path)), Path(path).resolve().parent


def run_trial(protocol: Protocol, base: Path) -> Trial:
    """Compute every section that is there; write nothing.

    Parameters
    ----------
    protocol : Protocol
    base : Path
        Where relative paths start.

    Raises
    ------
    SpecError, DataError
        What a section refuses.
    """
    definitions = {name: resolve_path(one, base) for name, one in protocol.definitions.items()} or None
    rules = protocol_rules(protocol, definitions)
    notes: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    facts: dict[str, Any] = {"trial": protocol.name, "sections": []}
    screened, found = None, None
    if protocol.has_persons:
        screened = _persons(protocol, base, rules, definitions)
        notes += [*screened.id_notes, *screened.notes]
        facts["screened"] = len(screened.frame)
        facts["measures"] = list(screened.measures)
        found = _eligibility(protocol, screened, rules, tables, facts)
    if protocol.feasibility is not None and screened is not None and found is not None:
        _feasibility(protocol, screened, found, tables, facts)
    if protocol.design is not None:
        _design(protocol, screened, found, definitions, tables, facts, notes)
    if protocol.randomisation is not None:
        _randomisation(protocol, screened, found, tables, facts, notes)
    for i, spec in enumerate(protocol.reanalysis or []):
        _reanalysis(spec, i, len(protocol.reanalysis or []), screened, base, tables, facts, notes)
    told = {
        CONCEALMENT,
        *(screened.id_notes if screened else []),
        *(note for one in facts.get("reanalysis", []) for note in one["notes"]),
    }
    facts["notes"] = [note for note in notes if note not in told]
    return Trial(protocol, tables, facts, notes)


def write_trial(trial: Trial, folder: Path, page: str) -> list[Path]:
    """Write the tables, the JSON and the page; each file appears whole or not at all.

    The list of allocations can be read by its owner alone. Files of an earlier run are replaced, others stay.

    Returns
    -------
    list of Path
        In the order they were written.

    Raises
    ------
    SpecError
        The folder is a file, or holds a list that the new one doesn't continue.
    """
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"`output` is {folder}, which is a file; it names the folder of the results: give another one")
    if LISTS in trial.tables:
        _check_continued(folder / f"{LISTS}.csv", trial.tables[LISTS])
    with writing(str(folder), "nothing was written"):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in trial.tables.items():
        path = folder / f"{name}.csv"
        if name == LISTS:
            # Made in a folder that nobody else can enter: at no moment can others read it.
            with tempfile.TemporaryDirectory(dir=folder, prefix=".list.") as private:
                made = write_table(table, Path(private) / path.name)
                made.chmod(0o600)
                made.replace(path)
        else:
            write_table(table, path)
        written.append(path)
    texts = {JSON: json.dumps(trial.facts, indent=2, ensure_ascii=False, default=_plain) + "\n", PAGE: page}
    for name, text in texts.items():
        temporary = folder / f".{name}.part"
        with writing(str(folder), f"{name} was not written"):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(folder / name)
        written.append(folder / name)
    return written


def _check_continued(file: Path, lists: pd.DataFrame) -> None:
    """Refuse to replace a list by which persons may have been randomised already."""
    if not file.exists():
        return
    columns = ["number", "arm"]
    earlier = read_table(file)
    places = dict(zip(lists["number"], lists["arm"], strict=True))
    if set(columns) <= set(earlier) and all(
        places.get(number) == arm for number, arm in earlier[columns].astype(str).itertuples(index=False)
    ):
        return
    raise SpecError(
        f"{file} holds another list of allocations, by which persons may have been randomised already; nothing was "
        "written. More places or more strata of the same seed, arms and blocks continue a list; for a new one name "
        "another `output`, or remove that file yourself"
    )


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data; a missing value is None."""
    frame = table.astype(object)
    return [
        {str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()}
        for row in frame.where(frame.notna(), None).to_dict("records")
    ]


# ---- sections ----


def _persons(protocol: Protocol, base: Path, rules: list[Rule], definitions: Mapping[str, str] | None) -> Screened:
    queries = {f"{rule.kind} {rule.name!r}, when": rule.when for rule in rules}
    if protocol.screening is not None:
        queries["screening"] = protocol.screening
    columns: dict[str, list[str]] = {
        "feasibility: by": list(protocol.feasibility.by) if protocol.feasibility else [],
        "randomisation: strata": [],
        "design_shares": [protocol.design_shares] if protocol.design_shares else [],
    }
    if protocol.randomisation is not None and isinstance(protocol.randomisation.strata, list):
        columns["randomisation: strata"] = protocol.randomisation.strata
    for one in protocol.reanalysis or []:
        # What the trial's own table has need not be in the sheet.
        own = read_table(Path(resolve_path(one.table, base)))
        columns.setdefault("reanalysis: by", []).extend(name for name in one.by if name not in own)
    source = protocol.sheet if protocol.sheet is not None else protocol.cohort
    assert source is not None
    cohort = None if protocol.cohort is None else resolve_path(protocol.cohort, base)
    calls = None
    if protocol.calls is not None:
        of_cohort = protocol.calls.startswith(f"{names.CLASSES}/")
        calls = read_calls(protocol.calls if of_cohort else resolve_path(protocol.calls, base), cohort)
    return screened_persons(
        resolve_path(source, base),
        wanted=wanted_columns(queries, columns),
        scores=protocol.scores,
        score_options=protocol.score_options,
        calls=calls,
        screening=protocol.screening,
        mapping=None if protocol.mapping is None else resolve_path(protocol.mapping, base),
        units=protocol.units,
        definitions=definitions,
    )


def _eligibility(
    protocol: Protocol, screened: Screened, rules: list[Rule], tables: dict[str, pd.DataFrame], facts: dict[str, Any]
) -> Eligibility:
    from sjd_dask.clinical.trials.eligibility import NO, UNDETERMINED, YES, eligibility

    found = eligibility(screened.frame, rules)
    if rules:
        facts["sections"].append("eligibility")
        tables["eligibility"], tables["criteria"] = found.persons, found.criteria
        tables["to_record"] = found.missing
    facts["eligible"] = {one: int((found.verdict == one).sum()) for one in (YES, NO, UNDETERMINED)}
    return found


def _feasibility(
    protocol: Protocol,
    screened: Screened,
    found: Eligibility,
    tables: dict[str, pd.DataFrame],
    facts: dict[str, Any],
) -> None:
    from sjd_dask.clinical.trials.feasibility import feasibility

    assert protocol.feasibility is not None
    spec = protocol.feasibility
    tables["feasibility"] = feasibility(screened.frame, found, by=spec.by, needed=spec.needed)
    facts["sections"].append("feasibility")
    facts["needed"] = spec.needed


def _design(
    protocol: Protocol,
    screened: Screened | None,
    found: Eligibility | None,
    definitions: Mapping[str, str] | None,
    tables: dict[str, pd.DataFrame],
    facts: dict[str, Any],
    notes: list[str],
) -> None:
    from sjd_dask.clinical.trials.designs import design

    spec = protocol.design
    assert spec is not None
    if protocol.design_shares is not None:
        assert screened is not None and found is not None
        spec, note = _with_shares(spec, protocol.design_shares, screened, found)
        notes.append(note)
    report = design(spec, definitions=definitions)
    tables |= {f"design_{name}": table for name, table in report.tables.items()}
    facts["sections"].append("design")
    facts["design"] = {"messages": list(report.messages)}


def _with_shares(spec: Any, column: str, screened: Screened, found: Eligibility) -> tuple[Any, str]:
    """The design with the shares that the strata have among the eligible."""
    from sjd_dask.clinical.trials.eligibility import YES
    from sjd_dask.clinical.trials.randomise import level_text

    frame = screened.frame
    if column not in frame:
        raise SpecError(f"`design_shares` names the column {column!r}, which the screened persons do not have")
    levels = level_text(frame[column])[found.verdict == YES]
    strata = [one.name for one in spec.strata]
    counts = {name: int((levels == name).sum()) for name in strata}
    total = sum(counts.values())
    empty = [name for name, n in counts.items() if n == 0]
    if empty:
        raise SpecError(
            f"`design_shares: {column}`: no eligible person is in the stratum {empty[0]!r} of the design; the eligible "
            f"are in {', '.join(sorted(set(levels))) or 'none'}"
        )
    shares = [one.model_copy(update={"share": counts[one.name] / total}) for one in spec.strata]
    said = ", ".join(f"{name} {counts[name] / total:.3f}" for name in strata)
    left = len(levels) - total
    more = f"; {left:,} eligible persons are in none of them" if left else ""
    return spec.model_copy(update={"strata": shares}), f"shares of the design's strata among the eligible: {said}{more}"


def _randomisation(
    protocol: Protocol,
    screened: Screened | None,
    found: Eligibility | None,
    tables: dict[str, pd.DataFrame],
    facts: dict[str, Any],
    notes: list[str],
) -> None:
    from sjd_dask.clinical.trials.eligibility import NO
    from sjd_dask.clinical.trials.randomise import balance, observed_levels, randomisation_lists

    spec = protocol.randomisation
    assert spec is not None
    strata: Any = spec.strata
    if isinstance(strata, list):
        levels: dict[str, list[str]] = {}
        if strata and screened is not None and found is not None:
            absent = [name for name in strata if name not in screened.frame]
            if absent:
                raise SpecError(
                    f"`randomisation: strata` names the column {absent[0]!r}, which the screened persons do not have"
                )
            entering = screened.frame[found.verdict != NO]
            if entering.empty:
                raise SpecError(
                    "`randomisation: strata` takes its levels from persons who may enter, and there are none"
                )
            levels = observed_levels(entering, strata)
        strata = levels
    made = randomisation_lists(
        spec.arms,
        strata,
        seed=spec.seed,
        allocation=spec.allocation,
        block_sizes=spec.block_sizes,
        per_stratum=spec.per_stratum,
    )
    tables[LISTS] = made
    tables["randomisation_balance"] = balance(made)
    with tempfile.TemporaryDirectory() as private:
        digest = hashlib.sha256(write_table(made, Path(private) / f"{LISTS}.csv").read_bytes()).hexdigest()
    facts["sections"].append("randomisation")
    facts["randomisation"] = {
        "arms": spec.arms, "strata": strata, "places": len(made), "sha256_of_list": digest, "concealment": CONCEALMENT,
    }  # fmt: skip
    notes.append(CONCEALMENT)


def _reanalysis(
    spec: ReanalysisSpec,
    place: int,
    of: int,
    screened: Screened | None,
    base: Path,
    tables: dict[str, pd.DataFrame],
    facts: dict[str, Any],
    notes: list[str],
) -> None:
    from sjd_dask.clinical.trials.reanalyse import reanalyse

    table = read_table(Path(resolve_path(spec.table, base)))
    table, said = _with_strata(table, spec, screened)
    found = reanalyse(
        table,
        endpoint=spec.endpoint,
        arm=spec.arm,
        control=spec.control,
        by=spec.by,
        kind=spec.kind,
        baseline=spec.baseline,
        missing=spec.missing,
        sequence=spec.sequence,
    )
    ending = "" if of == 1 else f"_{place + 1}"
    tables[f"reanalysis{ending}"] = found.effects
    tables[f"reanalysis_interaction{ending}"] = found.interactions
    tables[f"reanalysis_counts{ending}"] = found.counts
    facts["sections"] += [] if place else ["reanalysis"]
    facts.setdefault("reanalysis", []).append(
        {
            "endpoint": spec.endpoint, "kind": spec.kind, "control": found.control, "baseline": spec.baseline,
            "improvement": "up" if spec.kind == "binary" else spec.improvement, "tables": ending,
            "interactions": rows_of(found.interactions), "multiplicity": found.multiplicity,
            "notes": [*said, *found.notes],
        }
    )  # fmt: skip
    notes += [*said, *found.notes]


def _with_strata(
    table: pd.DataFrame, spec: ReanalysisSpec, screened: Screened | None
) -> tuple[pd.DataFrame, list[str]]:
    """The trial's table with the strata it lacks, from the screened persons."""
    wanted = [name for name in spec.by if name not in table]
    have = [] if screened is None else [name for name in wanted if name in screened.frame]
    if not have or screened is None:
        return table, []
    key = names.PERSON_ID if names.PERSON_ID in screened.frame else names.SAMPLE_ID
    if key not in table:
        raise SpecError(
            f"`reanalysis: by` takes {', '.join(have)} from the screened persons by {key}, which {spec.table} lacks"
        )
    people = screened.frame.set_index(screened.person)
    found = table[key].isin(people.index).to_numpy(dtype=bool)
    if not found.any():
        raise SpecError(f"no {key} of {spec.table} is among the screened persons: {', '.join(have)} can't be joined")
    table = table.copy()
    for name in have:
        table[name] = table[key].map(people[name]).to_numpy()
    missing = int(np.sum(~found))
    return table, [f"{missing:,} of {len(table):,} persons randomised are not among the screened"] if missing else []
