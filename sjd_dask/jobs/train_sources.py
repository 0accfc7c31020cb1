"""Where the values come from that a model is trained on: an assay, or a layer with the way back to its raw values."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask.errors import DataError, SjdError, SpecError
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_masks import masks_text
from sjd_dask.jobs.normalise_reference import ClusterReference, Phases, stage
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.jobs.sources import SampleSource, comparable_quantity, open_source
from sjd_dask.normalise.chain import Chain, fit_chain
from sjd_dask.normalise.method import Method, require_columns
from sjd_dask.store.assay import Assay
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.layer import Layer
from sjd_dask.store.segment import is_layer_key

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

# Options of methods that name samples of the reference set.
SAMPLE_OPTIONS = ("reference_sample", "target_samples")


@dataclass(frozen=True)
class Origin:
    """A source of values, and for a layer the frozen chain and the assay that it was made from.

    Attributes
    ----------
    named : SampleSource
        As the spec says it.
    quantity, scale : str
        What is read, and what it is.
    raw : Assay
        Where a sample's way begins; of an assay itself.
    chain : Chain or None
        From there to the values; None for an assay.
    sheet : DataFrame
        Sample columns of all samples, index sample ids.
    """

    named: SampleSource
    quantity: str
    scale: str
    raw: Assay
    chain: Chain | None
    sheet: pd.DataFrame

    @property
    def name(self) -> str:
        """As the user says it."""
        return self.named.name

    def stored(self, ids: Sequence[str]) -> Source:
        """These samples as they are stored: a layer's own rows."""
        assay = self.named.assay
        return Source(
            Matrix(assay.reader(ids), self.quantity),
            self.scale,
            self.sheet.reindex(list(ids)),
            assay.feature_ids(),
            assay.features(),
        )

    def refitted(self, ids: Sequence[str], held_out: Collection[str], phases: Phases) -> Source:
        """These samples after the chain's methods, fitted again without those held out.

        Samples that the new chain has no parameters for (their batch is held out as a whole) have missing values, and
        the reason is in the context ``pending``. An assay is read as it is stored.

        Raises
        ------
        DataError
            The methods can't be fitted on what is left.
        """
        if self.chain is None:
            return self.stored(ids)
        there, away = set(self.raw.sample_ids()), set(held_out)
        left = sorted(one for one in self.chain.reference_samples if one in there and one not in away)
        if not left:
            raise DataError(
                f"{self.name} was fitted on {len(self.chain.reference_samples):,} samples, and all of them are of "
                "persons that one fold holds out: fit the layer on more persons, or set `refit: false`"
            )
        methods = [refittable(method, left) for method, _ in self.chain.steps]
        try:
            chain = fit_chain(methods, ClusterReference(self._raw(left), phases))
        except SjdError as error:
            raise type(error)(f"without the persons of one fold {self.name} can't be fitted again: {error}") from error
        annotation = self.raw.features()
        space = FeatureSpace.of(list(chain.out_feature_ids), annotation if len(annotation.columns) else None)
        return stage(self._raw(ids), phases, space, space.columns, chain.scale, chain)

    def _raw(self, ids: Sequence[str]) -> Source:
        return Source(
            Matrix(self.raw.reader(ids), self.raw.quantity),
            self.raw.quantity,
            self.sheet.reindex(list(ids)),
            self.raw.feature_ids(),
            self.raw.features(),
        )

    def facts(self) -> dict[str, Any]:
        """What a model is made for."""
        return {
            "source": self.name,
            "assay": self.raw.name,
            "quantity": self.raw.quantity,
            "scale": self.scale if self.chain is None else self.chain.source_scale,
            "scale_after": self.scale,
            "feature_hash": self.raw.feature_hash,
            "n_features": self.raw.n_features,
            "steps": "" if self.chain is None else self.chain.text,
            "sample_columns": [] if self.chain is None else self.chain.columns,
        }


def open_origin(cohort: Cohort, assay: str | None, layer: str | None, quantity: str | None, what: str) -> Origin:
    """Open what the values come from.

    Parameters
    ----------
    what : str
        What is made of the values, for the refusal of counts.

    Raises
    ------
    SpecError
        Counts; a layer of a layer, of masked values, or whose chain can't be part of a model.
    """
    named = open_source(cohort, assay, layer)
    read, scale = comparable_quantity(named, quantity, what)
    sheet = cohort.samples()
    found = named.assay
    if not isinstance(found, Layer):
        return Origin(named, read, scale, found, None, sheet)
    if is_layer_key(found.source_assay):
        raise SpecError(
            f"{found.ref} was made from another layer ({found.meta.get('assay')}), and a model needs the whole way "
            "from raw values in one chain: normalise the assay with the steps of both"
        )
    stored = found.parameters()
    chain = Chain.from_arrays(stored.arrays, stored.attrs)
    if chain.masks:
        raise SpecError(
            f"{found.ref} was made of masked values ({masks_text(chain.masks)}), which a model can't ask of every new "
            "sample: normalise without masks"
        )
    chain.require_bundle()
    require_columns(chain.columns, sheet, chain.text)
    return Origin(named, read, scale, cohort.assay(found.source_assay), chain, sheet)


def check_refit(origin: Origin) -> None:
    """Refuse a chain that can't be fitted again from what it keeps.

    Raises
    ------
    SpecError
        A step read a file, of which the layer keeps the name only.
    """
    for method, _ in origin.chain.steps if origin.chain else ():
        for one in dataclasses.fields(method):  # type: ignore[arg-type]
            if one.metadata.get("path") and getattr(method, one.name) is not None:
                raise SpecError(
                    f"step `{method.method}` of {origin.name} read the file {getattr(method, one.name)!r}, which isn't "
                    "kept with the layer, so it can't be fitted again in each fold: set `refit: false`"
                )


def refittable(method: Method, ids: Collection[str]) -> Method:
    """The method without the samples it names that are not among these."""
    known, changed = set(ids), {}
    for name in SAMPLE_OPTIONS:
        value = getattr(method, name, None)
        if isinstance(value, str) and value not in known:
            changed[name] = None
        elif isinstance(value, (list, tuple)):
            kept = [one for one in value if one in known]
            changed[name] = kept or None
    return dataclasses.replace(method, **changed) if changed else method  # type: ignore[type-var]


def subset(source: Source, ids: Sequence[str]) -> Source:
    """Some samples of a source, in this order."""
    place = {one: i for i, one in enumerate(source.reader.sample_ids)}
    index = np.array([place[one] for one in ids], dtype=np.int64)
    return dataclasses.replace(
        source,
        matrix=dataclasses.replace(source.matrix, reader=source.reader.subset(index)),
        sheet=source.sheet.iloc[index],
        context={name: value[index] for name, value in source.context.items()},
    )


def values_present(source: Source) -> Any:
    """Which samples have values: bool, (n,)."""
    pending = source.context.get("pending")
    n = source.reader.n_samples
    return np.ones(n, dtype=bool) if pending is None else np.asarray(pending == "")
