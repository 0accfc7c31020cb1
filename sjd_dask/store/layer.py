"""Layers: normalised matrices. A version of a layer is a chain of frozen parameters and the rows it was applied to.

Its rows lie in the catalogue as those of an assay do, under a name with an '@' that no user can give: NAME@HASH, with
the beginning of the hash of the parameters. So runs with other parameters never write into one place, and new samples
join the version of their parameters. The version's number is in the table of results, decided when it is published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.arrays import Arrays, read_arrays
from sjd_dask.store.assay import Assay
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.results import ArraysFile, ResultRecord, find_result, list_results, parse_ref
from sjd_dask.store.catalogue.session import Catalogue, as_of
from sjd_dask.store.files import Files
from sjd_dask.store.segment import check_name

LAYERS: Final = "layers"
PARAMETERS: Final = "parameters"
# Of a layer's or a model's meta: why nobody may use its parameters any more.
BLOCKED: Final = "blocked"
MAX_NAME = 180
# The layer's name is the name of its variable, beside these in one group.
_TAKEN = (names.SAMPLE_ID, names.FEATURE_ID, names.SAMPLES, names.FEATURES, "zarr.json")
_HASH = re.compile(r"[0-9a-f]{16,}")


def check_layer_name(name: str) -> str:
    """A name a layer may have, or SpecError naming it and the rule."""
    check_name(name, "a layer")
    if len(name) > MAX_NAME:
        raise SpecError(f"{name!r} cannot be the name of a layer: it has {len(name)} characters, at most {MAX_NAME}")
    if name in _TAKEN:
        raise SpecError(f"{name!r} cannot be the name of a layer: its files use that name already; choose another")
    return name


def layer_key(name: str, parameters_hash: str) -> str:
    """The name under which the rows of a layer with these parameters are kept.

    Parameters
    ----------
    parameters_hash : str
        At least 16 lower-case hexadecimal digits; the first 16 are used.
    """
    if not _HASH.fullmatch(parameters_hash):
        raise SpecError(f"{parameters_hash!r} is not a hash: at least 16 lower-case hexadecimal digits")
    return f"{check_layer_name(name)}@{parameters_hash[:16]}"


def checked_meta(name: str, key: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the catalogue keeps with a version: plain data that says where its rows come from."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(meta)))
    for needed in ("source_assay", "parameters_hash"):
        if not isinstance(plain.get(needed), str):
            raise ValueError(f"the meta of a layer needs {needed!r}")
    if key != layer_key(name, plain["parameters_hash"]):
        raise ValueError(f"{key!r} is not the key of layer {name!r} with these parameters")
    return plain


def layer_ref(text: str) -> str:
    """``NAME``, ``NAME@V``, ``layers/NAME`` or ``layers/NAME@V`` as a reference of a result."""
    ref = text if text.startswith(f"{LAYERS}/") else f"{LAYERS}/{text}"
    parse_ref(ref)
    return ref


class Layer(Assay):
    """Samples x features of one version of a layer, as one view of the cohort shows them. Reads as an assay does.

    Attributes
    ----------
    layer : str
        The layer's name; also the quantity, so the name of the variable.
    version : int
    meta : dict
        What was fitted on what.
    run : str or None
        The run that made the version.
    source_assay, parameters_hash : str
    """

    def __init__(self, files: Files, catalogue: Catalogue, record: ResultRecord, snapshot: int | None = None) -> None:
        super().__init__(files, catalogue, record.meta["assay_key"], snapshot)
        self.record = record
        self.layer = record.name
        self.version = record.version
        self.meta = record.meta
        self.run = record.run_id
        self.source_assay: str = record.meta["source_assay"]
        self.parameters_hash: str = record.meta["parameters_hash"]

    def __repr__(self) -> str:
        return f"<Layer {self.ref}: {self.n_samples} samples x {self.n_features} features>"

    @property
    def ref(self) -> str:
        """``layers/NAME@VERSION``."""
        return f"{LAYERS}/{self.layer}@{self.version}"

    def parameters(self) -> Arrays:
        """What was fitted.

        Raises
        ------
        DataError
            The file is lost or was changed, or they are blocked: they copied values of somebody who withdrew.
        """
        refuse_blocked(self.ref, self.meta)
        file = self.record.files.get(PARAMETERS)
        if not isinstance(file, ArraysFile):
            raise DataError(f"{self.ref} has no parameters in the catalogue; restore it from a backup")
        return read_arrays(self.files, file)

    def source_hashes(self) -> dict[str, str]:
        """For each sample, the hash of the source row that its row was made from."""
        return {row.sample_id: row.source_hash for row in self._rows if row.source_hash is not None}


def refuse_blocked(ref: str, meta: Mapping[str, Any]) -> None:
    """Refuse parameters that copied values of somebody who withdrew.

    Raises
    ------
    DataError
        With the reasons and the remedy.
    """
    if found := meta.get(BLOCKED):
        raise DataError(
            f"{ref} is blocked since people withdrew: {'; '.join(map(str, found))}. What was made with it stays, and "
            "nothing new can be. Fit anew on the people who are here (`steps` in place of `parameters`), and train "
            "models on the new layer."
        )


@dataclass(frozen=True)
class LayerVersion:
    """One version of a layer, in numbers. `n_bytes` counts files on disk."""

    name: str
    version: int
    ref: str
    assay_key: str
    parameters_hash: str
    source_assay: str
    n_samples: int
    n_features: int
    n_segments: int
    n_bytes: int
    dtype: str
    run: str | None
    published_in: int
    meta: dict[str, Any]


@dataclass(frozen=True)
class LayerInfo:
    """A layer and its versions, oldest first."""

    name: str
    versions: tuple[LayerVersion, ...]

    @property
    def newest(self) -> LayerVersion:
        """The version that the name alone means."""
        return self.versions[-1]


def open_layer(files: Files, catalogue: Catalogue, ref: str, snapshot: int | None = None) -> Layer:
    """A layer by its name or reference.

    Raises
    ------
    SpecError
        There is none; the message names what there is.
    """
    wanted = layer_ref(ref)
    try:
        record = find_result(catalogue, wanted, snapshot)
    except SpecError as error:
        known = [f"{one.name}@{one.version}" for one in list_results(catalogue, snapshot) if one.kind == LAYERS]
        there = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        raise SpecError(f"this cohort has no layer {ref!r}; it has: {there or 'none yet'}") from error
    return Layer(files, catalogue, record, snapshot)


def find_layer(
    files: Files, catalogue: Catalogue, name: str, assay_key: str, snapshot: int | None = None
) -> Layer | None:
    """The published version of a layer with these parameters; None where there is none."""
    for record in reversed(list_results(catalogue, snapshot)):
        if (record.kind, record.name, record.meta.get("assay_key")) == (LAYERS, name, assay_key):
            return Layer(files, catalogue, record, snapshot)
    return None


def list_layers(catalogue: Catalogue, snapshot: int | None = None) -> list[LayerInfo]:
    """All layers of a view, by name."""
    records = [one for one in list_results(catalogue, snapshot) if one.kind == LAYERS]
    if not records:
        return []
    rows, segments = t.rows.c, t.segments.c
    keys = [one.meta["assay_key"] for one in records]
    with catalogue.read() as connection:
        features = dict(
            connection.execute(sa.select(t.assays.c.name, t.assays.c.n_features).where(t.assays.c.name.in_(keys))).all()
        )
        counted = sa.select(rows.assay, rows.segment_id, sa.func.count()).where(
            rows.assay.in_(keys), as_of(t.rows, snapshot)
        )
        found = connection.execute(counted.group_by(rows.assay, rows.segment_id)).all()
        stored = {
            row.id: row
            for row in connection.execute(
                sa.select(segments.id, segments.n_bytes, segments.encoding).where(segments.assay.in_(keys))
            )
        }
    versions: dict[str, list[LayerVersion]] = {}
    for record in records:
        key = record.meta["assay_key"]
        mine = [(segment_id, count) for assay, segment_id, count in found if assay == key]
        dtypes = {json.loads(stored[segment_id].encoding)["dtype"] for segment_id, _ in mine}
        versions.setdefault(record.name, []).append(
            LayerVersion(
                name=record.name,
                version=record.version,
                ref=f"{LAYERS}/{record.name}@{record.version}",
                assay_key=key,
                parameters_hash=record.meta["parameters_hash"],
                source_assay=record.meta["source_assay"],
                n_samples=sum(count for _, count in mine),
                n_features=features[key],
                n_segments=len(mine),
                n_bytes=sum(stored[segment_id].n_bytes for segment_id, _ in mine),
                dtype=", ".join(sorted(dtypes)),
                run=record.run_id,
                published_in=record.published_in,
                meta=record.meta,
            )
        )
    return [LayerInfo(name, tuple(sorted(versions[name], key=lambda one: one.version))) for name in sorted(versions)]
