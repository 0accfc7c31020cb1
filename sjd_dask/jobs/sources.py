"""Where a job's values come from: an assay or a layer, and which of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from sjd_dask import names
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import SpecError

if TYPE_CHECKING:
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort


@dataclass(frozen=True)
class SampleSource:
    """An assay or a layer.

    Attributes
    ----------
    assay : Assay
        A layer is one too.
    name : str
        As the user says it.
    quantity : str
        The variable that is read.
    scale : str
        What its values are: a quantity of `sjd_dask.names`.
    """

    assay: Assay
    name: str
    quantity: str
    scale: str


def open_source(cohort: Cohort, assay: str | None, layer: str | None) -> SampleSource:
    """Open the assay or the layer of a spec.

    Raises
    ------
    SpecError
        There is none of that name.
    """
    if layer is not None:
        found = cohort.layer(layer)
        return SampleSource(found, found.ref, found.quantity, str(found.meta.get("scale_after", names.EXPRESSION)))
    assert assay is not None
    opened = cohort.assay(assay)
    return SampleSource(opened, assay, opened.quantity, opened.quantity)


def select(
    source: SampleSource, cohort: Cohort, query: str | None, key: str = "samples"
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample columns of the chosen samples, in the order they are stored; samples without any have missing cells.

    Raises
    ------
    SpecError
        The query selects nothing, or names a column that isn't there.
    """
    stored = pd.Index(source.assay.sample_ids(), name=names.SAMPLE_ID, dtype=object)
    frame = cohort.samples().reindex(stored).infer_objects()
    frame.index = stored
    facts: dict[str, Any] = {"available": len(stored), "filter": query, "dropped": []}
    if query is not None:
        kept = query_samples(frame, query, key)
        if kept.empty:
            raise SpecError(f"`{key}: {query}` selects none of the {len(frame):,} samples of {source.name!r}")
        facts["dropped"].append({"reason": f"not selected by `{query}`", "count": len(frame) - len(kept)})
        frame = kept
    return frame, facts


def comparable_quantity(named: SampleSource, wanted: str | None, what: str) -> tuple[str, str]:
    """The quantity to read of a source whose samples are compared, and what its values are.

    Parameters
    ----------
    named : SampleSource
    wanted : str or None
        As the spec says; None: as stored.
    what : str
        What is made of the values ("distances", "differences"), for the refusal of counts.

    Raises
    ------
    SpecError
        Counts, or a quantity that can't be made of what is stored.
    """
    if named.scale == names.COUNTS:
        raise SpecError(
            f"assay {named.name!r} holds counts, whose {what} are those of library sizes too: normalise it first "
            "(`job: normalise`), and give `layer: layers/NAME`"
        )
    if wanted is None or wanted == named.quantity:
        return named.quantity, named.scale
    if named.quantity == names.BETA and wanted == names.M_VALUE:
        return names.M_VALUE, names.M_VALUE
    possible = f"{names.BETA} or {names.M_VALUE}" if named.quantity == names.BETA else named.quantity
    raise SpecError(
        f"assay {named.name!r} holds {named.quantity}; `quantity: {wanted}` can't be made of it, only {possible}"
    )
