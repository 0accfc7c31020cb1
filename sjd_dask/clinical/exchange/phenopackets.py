"""GA4GH Phenopackets: one message a person, checked by the official package before it is written.

A measurement or score becomes a ``Measurement`` with its UCUM unit and time. A score that missing items leave open has
no value: its bounds stand in a ``complexValue``, since a reference range would say what is normal, not what is known.
A molecular class is a measurement too, not an ``Interpretation``, which is for diagnoses from genomic findings.

References
----------
Phenopacket schema 2.0 (P): required fields, and one resource for each prefix that is used. Terms:
``definitions/phenopackets.yaml``, each with its mark.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.exchange.observations import Answer, Column, Presence, Quantity, person_ids
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError, MissingDependency, SpecError

Writer = Callable[[int, str], "dict[str, Any] | None"]
SCHEMA_VERSION = "2.0"
OWN = "SJD"
_SEXES = {"female": "FEMALE", "male": "MALE"}
_CURIE = re.compile(r"([A-Za-z][A-Za-z0-9._]*):(\S+)")
# Message -> fields that the schema requires; of a group in a tuple, one.
_REQUIRED: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "Phenopacket": ("id", "meta_data"),
    "Individual": ("id",),
    "Measurement": ("assay", ("value", "complex_value")),
    "Value": (("quantity", "ontology_class"),),
    "Quantity": ("unit",),
    "ComplexValue": ("typed_quantities",),
    "TypedQuantity": ("type", "quantity"),
    "Disease": ("term",),
    "OntologyClass": ("id", "label"),
    "Age": ("iso8601duration",),
    "MetaData": ("created", "created_by", "resources", "phenopacket_schema_version"),
    "Resource": ("id", "name", "url", "version", "namespace_prefix", "iri_prefix"),
}


@dataclass(frozen=True)
class Packets:
    """Makes the Phenopackets of a sheet's persons.

    Attributes
    ----------
    sheet : Sheet
    columns : sequence of Column
        What is known of its rows.
    patients : ndarray of bool, (n,), or None
        Rows that say of their person that it has Sjögren disease; None: nothing is said of any.
    created : str
        Time of writing, ISO 8601 in UTC.
    version : str
        Of this package.
    definitions : mapping, optional
        ``{"phenopackets": FILE}`` lays a file over the shipped terms.
    """

    sheet: Sheet
    columns: Sequence[Column]
    patients: NDArray[np.bool_] | None
    created: str
    version: str
    definitions: Overrides | None = None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Person and Phenopacket as JSON text, persons in order of their first row.

        Raises
        ------
        MissingDependency
            The package ``phenopackets`` is not installed.
        SpecError
            A term that is no CURIE, or whose prefix no resource of the definition explains.
        DataError
            Rows of one person that disagree on its sex.
        """
        terms = load_definition("phenopackets", self.definitions)
        measured = [_writer(column, terms) for column in self.columns]
        years = self.sheet.number("age")
        times = self._times(years)
        sexes = self.sheet.text("sex")
        visits, samples = self.sheet.text(names.VISIT), self.sheet.frame[names.SAMPLE_ID].to_numpy(dtype=object)
        for person, rows in _rows_of(person_ids(self.sheet)):
            measurements = []
            used = {OWN}
            for row in rows:
                where = (
                    f"sample {samples[row]}" if visits[row] is None else f"visit {visits[row]}, sample {samples[row]}"
                )
                for writer, prefixes in measured:
                    found = writer(row, where)
                    if found is not None:
                        measurements.append({**found, **times[row]})
                        used |= prefixes
            packet: dict[str, Any] = {"id": person, "subject": {"id": person, "sex": _sex(person, sexes[rows])}}
            known = rows[~np.isnan(years[rows])]
            if len(known):
                oldest = _duration(years[known].max())
                packet["subject"]["timeAtLastEncounter"] = {"age": {"iso8601duration": oldest}}
            packet["measurements"] = measurements
            if self.patients is not None and self.patients[rows].any():
                packet["diseases"] = [{"term": _term(terms["disease"]["term"])}]
                used.add(_prefix(terms["disease"]["term"]["id"]))
            packet["metaData"] = {
                "created": self.created,
                "createdBy": f"sjd-dask {self.version}",
                "resources": _resources(used, terms["resources"], self.version),
                "phenopacketSchemaVersion": SCHEMA_VERSION,
            }
            text = json.dumps(packet, ensure_ascii=False) + "\n"
            check_packet(text)
            yield person, text

    def _times(self, years: NDArray[np.float64]) -> list[dict[str, Any]]:
        """When each row was observed: by its date, else by the person's age."""
        ids = self.sheet.ids
        dates = ids[names.DATE] if names.DATE in ids else pd.Series([pd.NaT] * self.sheet.n)
        times: list[dict[str, Any]] = []
        for date, age in zip(dates, years, strict=True):
            if not pd.isna(date):
                times.append({"timeObserved": {"timestamp": f"{date:%Y-%m-%dT%H:%M:%SZ}"}})
            else:
                times.append({} if np.isnan(age) else {"timeObserved": {"age": {"iso8601duration": _duration(age)}}})
        return times


def check_packet(text: str) -> Any:
    """Read a Phenopacket back through the official message classes, and check what the schema requires.

    Parameters
    ----------
    text : str
        JSON.

    Returns
    -------
    phenopackets.Phenopacket
        The message.

    Raises
    ------
    MissingDependency
        The package ``phenopackets`` is not installed.
    DataError
        A field that the schema doesn't know, a required one that is absent, an ontology term that is no CURIE, or one
        whose prefix has no resource.
    """
    try:
        from google.protobuf.json_format import Parse, ParseError
        from phenopackets.schema.v2 import Phenopacket
    except ImportError:
        raise MissingDependency("phenopackets", "exchange", "Exchange as Phenopackets") from None
    try:
        message = Parse(text, Phenopacket())
    except ParseError as error:
        raise DataError(f"not a Phenopacket: {error}") from None
    prefixes: set[str] = set()
    _check(message, "Phenopacket", prefixes)
    explained = {one.namespace_prefix for one in message.meta_data.resources}
    if prefixes - explained:
        raise DataError(
            f"Phenopacket {message.id!r}: the prefix {sorted(prefixes - explained)[0]!r} is used, and no resource of "
            "its metaData explains it"
        )
    return message


@cache
def _asked(descriptor: Any) -> tuple[tuple[tuple[str, ...], ...], dict[str, bool]]:
    """Groups of fields of a message of which one is required; its fields that hold messages, and whether many."""
    groups = tuple((one,) if isinstance(one, str) else one for one in _REQUIRED.get(descriptor.name, ()))
    many = {one.name: hasattr(getattr(descriptor._concrete_class(), one.name), "__len__")
            for one in descriptor.fields if one.message_type is not None}  # fmt: skip
    return groups, many


def _check(message: Any, path: str, prefixes: set[str]) -> None:
    groups, many = _asked(message.DESCRIPTOR)
    present = {field.name: value for field, value in message.ListFields()}
    for group in groups:
        if not any(name in present for name in group):
            raise DataError(f"{path} lacks {' or '.join(group)}, which the Phenopacket schema requires")
    if message.DESCRIPTOR.name == "OntologyClass":
        found = _CURIE.fullmatch(message.id)
        if found is None:
            raise DataError(
                f"{path}: {message.id!r} is no CURIE (prefix:term), which an ontology class needs as its id"
            )
        prefixes.add(found[1])
    for name, value in present.items():
        if name not in many:
            continue
        if many[name]:
            for place, one in enumerate(value):
                _check(one, f"{path}.{name}[{place}]", prefixes)
        else:
            _check(value, f"{path}.{name}", prefixes)


def _writer(column: Column, terms: Mapping[str, Any]) -> tuple[Writer, frozenset[str]]:
    """A function of a row and where it is, giving the measurement without its time, or None; and its prefixes."""
    given = terms["assays"].get(column.name)
    assay = _term(given) if given else {"id": _own(column.name), "label": column.title}
    prefixes = {_prefix(assay["id"])}
    if isinstance(column, Quantity):
        ends = [_term(terms["bounds"][one]) for one in ("least", "greatest")]
        return _quantities(column, assay, ends), frozenset({*prefixes, "UCUM", *(_prefix(one["id"]) for one in ends)})
    if isinstance(column, Presence):
        classes = {flag: _term(terms["presence"][name]) for flag, name in ((1.0, "present"), (0.0, "absent"))}

        def presence(row: int, where: str) -> dict[str, Any] | None:
            found = classes.get(float(column.flag[row]))
            return None if found is None else _measurement(where, assay, {"value": {"ontologyClass": found}})

        return presence, frozenset({*prefixes, *(_prefix(one["id"]) for one in classes.values())})

    def answer(row: int, where: str) -> dict[str, Any] | None:
        text = column.text[row]
        if text is None:
            return None
        term = {"id": _own(f"{column.name}.{text}"), "label": text}
        return _measurement(where, assay, {"value": {"ontologyClass": term}})

    assert isinstance(column, Answer)
    return answer, frozenset({*prefixes, OWN})


def _quantities(column: Quantity, assay: dict[str, str], ends: Sequence[dict[str, str]]) -> Writer:
    unit = {"id": f"UCUM:{column.unit}", "label": column.unit}
    value, low, high = column.value.tolist(), column.low.tolist(), column.high.tolist()

    def quantity(row: int, where: str) -> dict[str, Any] | None:
        if not math.isnan(value[row]):
            return _measurement(where, assay, {"value": {"quantity": {"unit": unit, "value": value[row]}}})
        if math.isnan(low[row]) or math.isnan(high[row]):
            return None
        why = "" if column.reason is None or column.reason[row] is None else f" ({column.reason[row]})"
        typed = [
            {"type": end, "quantity": {"unit": unit, "value": one}}
            for end, one in zip(ends, (low[row], high[row]), strict=True)
        ]
        return _measurement(f"{where}; undetermined{why}", assay, {"complexValue": {"typedQuantities": typed}})

    return quantity


def _measurement(where: str, assay: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
    return {"description": where, "assay": assay, **value}


def _term(entry: Mapping[str, Any]) -> dict[str, str]:
    return {"id": str(entry["id"]), "label": str(entry["label"])}


def _own(name: str) -> str:
    """A CURIE of this package's own; what a CURIE can't hold becomes an underscore."""
    return f"{OWN}:{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}"


def _rows_of(persons: NDArray[np.object_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    codes, different = pd.factorize(persons)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(different)))
    for person, rows in zip(different, np.split(order, ends[:-1]), strict=True):
        yield str(person), rows


def _sex(person: str, given: NDArray[np.object_]) -> str:
    known = sorted({one for one in given if one is not None})
    if len(known) > 1:
        raise DataError(f"person {person!r} is {known[0]} in one row and {known[1]} in another: correct the sheet")
    return _SEXES[known[0]] if known else "UNKNOWN_SEX"


def _duration(years: float) -> str:
    """An age as ISO 8601 duration, in whole months where it is no whole number of years."""
    months = int(years * 12 + 1e-6)
    return f"P{months // 12}Y" + (f"{months % 12}M" if months % 12 else "")


def _prefix(term: str) -> str:
    return str(term).split(":", 1)[0]


def _resources(used: set[str], known: Mapping[str, Any], version: str) -> list[dict[str, str]]:
    """One resource for each prefix that is used, in alphabetical order."""
    found = []
    for prefix in sorted(used):
        if prefix not in known:
            raise SpecError(
                f"the prefix {prefix!r} of a term has no entry under `resources` of the definition 'phenopackets'; "
                f"there are {', '.join(known)}. Add one to your definition file"
            )
        one = known[prefix]
        pinned = version if one["version"] == "package" else str(one["version"])
        found.append(
            {
                "id": one["id"], "name": one["name"], "url": one["url"], "version": pinned,
                "namespacePrefix": prefix, "iriPrefix": one["iri_prefix"],
            }
        )  # fmt: skip
    return found
