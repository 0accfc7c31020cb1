"""Which endpoint reads which axis, what trials have shown, and cohorts of finished trials; all as data with marks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sjd_dask.clinical.axis_dominance import AXES, NONE_DOMINATES
from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.errors import SpecError


def endpoints_for(dominant: str, *, definitions: Overrides | None = None) -> list[str]:
    """Names of the endpoints that read an axis as a whole; where none dominates, those that read every axis.

    Raises
    ------
    SpecError
        An unknown axis.

    Examples
    --------
    >>> endpoints_for("systemic")
    ['essdai', 'clinessdai']
    >>> endpoints_for("none dominates")
    ['star', 'cress']
    """
    table = load_definition("endpoints", definitions)["endpoints"]
    if dominant == NONE_DOMINATES:
        return [name for name, one in table.items() if set(AXES) <= set(one["reads"])]
    _known(dominant, AXES, "axis")
    return [name for name, one in table.items() if one["reads"].get(dominant) == "whole"]


def endpoint_table(*, definitions: Overrides | None = None) -> pd.DataFrame:
    """Endpoints and how much of each axis they read.

    Returns
    -------
    DataFrame
        ``endpoint``, ``title``, ``kind``, ``better`` (lower, higher), ``systemic``, ``gland``, ``symptoms`` (whole,
        part, or empty), ``why``, ``mark``, ``source``.
    """
    rows = []
    for name, one in load_definition("endpoints", definitions)["endpoints"].items():
        reads = {axis: one["reads"].get(axis, "") for axis in AXES}
        told = {key: one.get(key, "") for key in ("title", "kind", "better")}
        rows.append({"endpoint": name, **told, **reads, **{key: one.get(key, "") for key in ("why", "mark", "source")}})
    return pd.DataFrame(rows)


def trial_evidence(
    *, axis: str | None = None, endpoint: str | None = None, definitions: Overrides | None = None
) -> pd.DataFrame:
    """Results of trials, one a row.

    Parameters
    ----------
    axis, endpoint : str, optional
        Only trials that aimed at this axis, or used this endpoint.

    Returns
    -------
    DataFrame
        ``result_of`` (name of the entry), ``drug``, ``trial``, ``arm``, ``target``, ``n`` (all arms together), ``axes``
        (joined by commas), ``endpoint``, ``reads`` (axes that the endpoint reads), ``matched`` (whether it reads every
        axis aimed at; missing for endpoints that are not in the table), ``week``, ``result`` (met, not met, response,
        reported), ``effect``, ``p``, ``response``, ``placebo``, ``unit``, ``note``, ``template``, ``mark``, ``source``.

    Raises
    ------
    SpecError
        An unknown axis or endpoint.
    """
    trials = load_definition("evidence", definitions)["trials"]
    endpoints = load_definition("endpoints", definitions)["endpoints"]
    if axis is not None:
        _known(axis, AXES, "axis")
    if endpoint is not None:
        _known(endpoint, sorted({one["endpoint"] for one in trials.values()}), "endpoint of a trial")
    texts = ("drug", "trial", "arm", "target")
    numbers = ("effect", "p", "response", "placebo")
    rows = []
    for name, one in trials.items():
        if (axis is not None and axis not in one["axes"]) or (endpoint is not None and endpoint != one["endpoint"]):
            continue
        reads = endpoints.get(one["endpoint"], {}).get("reads", {})
        rows.append(
            {
                "result_of": name,
                **{key: one.get(key, "") for key in texts},
                "n": one.get("n"),
                "axes": ", ".join(one["axes"]),
                "endpoint": one["endpoint"],
                "reads": ", ".join(reads),
                "matched": set(one["axes"]) <= set(reads) if reads else None,
                "week": one.get("week"),
                "result": one["result"],
                **{key: one.get(key) for key in numbers},
                **{key: one.get(key, "") for key in ("unit", "note", "template", "mark", "source")},
            }
        )
    table = pd.DataFrame(rows)
    floats = dict.fromkeys(numbers, "float64")
    return table.astype({"n": "Int64", "week": "Int64", "matched": "boolean", **floats}) if rows else table


def trial_template(name: str, *, definitions: Overrides | None = None) -> dict[str, Any]:
    """The cohort of a finished trial.

    Returns
    -------
    dict
        ``title``, ``axis``, ``endpoint``, ``measures`` to compute first, ``include`` (criteria: ``name``, ``when``),
        ``mark``, ``source``.

    Raises
    ------
    SpecError
        There is none of that name.
    """
    templates = load_definition("templates", definitions)["templates"]
    _known(name, list(templates), "template")
    found: dict[str, Any] = templates[name]
    return found


def _known(name: str, known: Any, what: str) -> None:
    if name not in known:
        raise SpecError(f"no {what} {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
