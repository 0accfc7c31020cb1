"""ESSDAI and ClinESSDAI: systemic activity as a weighted sum of domain levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.clinical.kept import kept_by_sheet
from sjd_dask.clinical.laboratory import DOMAINS, derived_levels
from sjd_dask.clinical.measures import Measure, interval_columns, text_kept
from sjd_dask.clinical.reasons import by_pattern, missing_reason
from sjd_dask.clinical.sheet import Sheet, canonical_name
from sjd_dask.clinical.weighted_sum import can_be_made, checked_sum, item_names, strata, use_recorded, weighted_sum
from sjd_dask.errors import SpecError

_WAYS = ("propose", "use", "ignore")


def _from_laboratory(
    sheet: Sheet, items: Sequence[str], way: str, definitions: Overrides | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """By domain, least and greatest level of the missing ones and what was proposed; and which were derived."""
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    proposed: dict[str, np.ndarray] = {}
    derived: dict[str, np.ndarray] = {}
    definition: Mapping[str, Any] = load_definition("laboratory", definitions)
    for domain in DOMAINS:
        if domain not in items:
            continue
        if way == "ignore":
            proposed[f"{domain}_proposed"] = np.full(sheet.n, np.nan)
            continue
        least, most = derived_levels(sheet, domain=domain, definitions=definitions)
        proposed[f"{domain}_proposed"] = np.where(least == most, least, np.nan)
        entry = definition["origin"].get(domain)
        origin = sheet.flag(entry["column"]) if entry else np.full(sheet.n, np.nan)
        counts = np.isnan(sheet.level(domain)) & ((origin == 1) if way == "propose" else (origin != 0))
        low[domain] = np.where(counts, least, np.nan)
        high[domain] = np.where(counts, most, np.nan)
        derived[domain] = counts & (least == most)
    if not derived:
        return low, high, proposed, np.full(sheet.n, "", dtype=object)
    text = by_pattern(
        list(derived.values()), lambda *on: ", ".join(name for name, one in zip(derived, on, strict=True) if one)
    )
    return low, high, proposed, text


def _domains(asked: Sequence[str] | str | None, definitions: Overrides | None) -> list[str] | None:
    """Domains as a list, in their canonical spelling where they have one (``cns``)."""
    if asked is None:
        return None
    named = [one.strip() for one in (asked.split(",") if isinstance(asked, str) else asked)]
    found = [canonical_name(one, definitions) for one in named]
    return [name if one is None else one[0] for name, one in zip(named, found, strict=True)]


def domain_ranges(
    sheet: Sheet,
    name: str,
    domains: Sequence[str] | str | None,
    way: str,
    definitions: Overrides | None,
) -> tuple[list[str], list[float], list[np.ndarray], list[np.ndarray]]:
    """Names, weights, and least and greatest level of the domains of a score, (n,) each; equal where one is known."""
    definition = checked_sum(load_definition(name, definitions), name)
    asked = _domains(domains, definitions)
    items = item_names(definition, None if asked is None else [one for one in asked if one in definition["items"]])
    least, most, _, _ = _from_laboratory(sheet, items, way, definitions)
    lows, highs = [], []
    for item in items:
        level, allowed = sheet.level(item), definition["items"][item]["levels"]
        low, high = (np.where(np.isnan(level), float(end(allowed)), level) for end in (min, max))
        if item in least:
            open_still = np.isnan(level)
            low = np.where(open_still & ~np.isnan(least[item]), least[item], low)
            high = np.where(open_still & ~np.isnan(most[item]), most[item], high)
        lows.append(low)
        highs.append(high)
    return items, [float(definition["items"][item]["weight"]) for item in items], lows, highs


def _score(
    sheet: Sheet,
    name: str,
    domains: Sequence[str] | str | None,
    way: str,
    definitions: Overrides | None,
) -> pd.DataFrame:
    if way not in _WAYS:
        raise SpecError(f"laboratory: {way!r}{did_you_mean(way, _WAYS)}; use {', '.join(_WAYS)}")
    definition = checked_sum(load_definition(name, definitions), name)
    items = item_names(definition, _domains(domains, definitions), "domains")
    levels = [sheet.level(item) for item in items]
    low, high, proposed, derived = _from_laboratory(sheet, items, way, definitions)
    summed = weighted_sum(np.array(levels).T, definition, items, low=low, high=high)
    known = [~np.isnan(level) for level in levels]
    for item in low:
        known[items.index(item)] |= low[item] == high[item]
    reason = missing_reason(np.array(known).T, items)
    whole = items == item_names(definition)
    if whole and sheet.has(definition["recorded"]["column"]):
        recorded = sheet.number(definition["recorded"]["column"])
        possible = can_be_made(recorded, np.array(levels).T, definition, items, low=low, high=high)
        summed, reason = use_recorded(summed, recorded, float(definition["recorded"]["tolerance"]), reason, possible)
    least, most = summed["min"].to_numpy(), summed["max"].to_numpy()
    bands = strata(least, most, definition) if whole else np.full(sheet.n, None, dtype=object)
    return text_kept(
        {
            name: summed["value"],
            f"{name}_min": least,
            f"{name}_max": most,
            f"{name}_known": summed["known"],
            f"{name}_items": summed["items"],
            f"{name}_activity": bands,
            f"{name}_domains": np.full(sheet.n, "all" if whole else ", ".join(items), dtype=object),
            f"{name}_derived": derived,
            f"{name}_reason": reason,
            **proposed,
        }
    )


@kept_by_sheet
def essdai(
    sheet: Sheet,
    *,
    definitions: Overrides | None = None,
    domains: Sequence[str] | str | None = None,
    laboratory: str = "propose",
) -> pd.DataFrame:
    """ESSDAI: weight times level summed over twelve domains, 0 to 123.

    Parameters
    ----------
    sheet
        The visits; domain columns hold levels of activity (not points).
    definitions
        ``essdai`` and ``laboratory`` count here.
    domains
        The domains to score, as a list or separated by commas; all by default. ``essdai_domains`` says which. A subset
        has no activity band and no recorded total, since both are defined for the whole.
    laboratory
        What a missing haematological or biological domain takes from laboratory values: ``propose`` (default), their
        level only where the flag ``cytopenia_autoimmune`` (``biological_autoimmune``) says yes, else it stays missing
        and ``<domain>_proposed`` shows the proposal; ``use``, their level unless that flag says no; ``ignore``,
        nothing. Incomplete values narrow the level to an interval.

    Returns
    -------
    pandas.DataFrame
        ``essdai`` (NaN where the missing domains leave it open), ``essdai_min``, ``essdai_max``, ``essdai_known``,
        ``essdai_items``, ``essdai_activity`` (low, moderate, high; None where the interval spans two),
        ``essdai_domains``, ``essdai_derived`` (domains taken from laboratory values), ``essdai_reason``,
        ``haematological_proposed``, ``biological_proposed``. A missing domain widens the score and is never 0. A total
        recorded as ``essdai`` counts where domains are missing and it fits the known ones.

    Raises
    ------
    SpecError
        An unknown domain or value of ``laboratory``.
    DataError
        A level or laboratory value that isn't allowed or plausible.

    References
    ----------
    Seror et al. 2010, Ann Rheum Dis 69:1103: range 0-123 and the weights of constitutional to pulmonary (P), of renal
    to biological (K). Seror et al. 2016, Ann Rheum Dis 75:382: activity bands, minimal improvement (P).
    """
    return _score(sheet, "essdai", domains, laboratory, definitions)


@kept_by_sheet
def clinessdai(
    sheet: Sheet,
    *,
    definitions: Overrides | None = None,
    domains: Sequence[str] | str | None = None,
    laboratory: str = "propose",
) -> pd.DataFrame:
    """ClinESSDAI: ESSDAI without the biological domain and with its own weights, 0 to 135.

    Parameters, columns (named ``clinessdai...``) and errors as `essdai`. A ``biological`` among ``domains`` is left
    out, since ClinESSDAI has none: ``clinessdai_domains`` says what was scored.

    References
    ----------
    Seror et al. 2016, Ann Rheum Dis 75:1945: weights (S). Activity bands as ESSDAI's (K).
    """
    if domains is not None:
        own = load_definition("clinessdai", definitions)["items"]
        asked = _domains(domains, definitions) or []
        domains = [one for one in item_names(load_definition("essdai", definitions), asked, "domains") if one in own]
        if not domains:
            raise SpecError(f"domains: ClinESSDAI has no domain {', '.join(asked)}")
    return _score(sheet, "clinessdai", domains, laboratory, definitions)


_DOMAINS = (
    *("constitutional", "lymphadenopathy", "glandular", "articular", "cutaneous", "pulmonary", "renal", "muscular"),
    *("peripheral_nervous_system", "central_nervous_system", "haematological"),
)


def _columns(name: str, title: str, proposals: Sequence[str]) -> dict[str, tuple[str, str]]:
    columns = interval_columns(name, title)
    reason = columns.pop(f"{name}_reason")
    return {
        **columns,
        f"{name}_activity": ("text", "low, moderate or high; missing where the interval spans two"),
        f"{name}_domains": ("text", "domains that were scored: all, or their names"),
        f"{name}_derived": ("text", "domains whose level was taken from laboratory values"),
        f"{name}_reason": reason,
        **{
            f"{one}_proposed": ("number", f"level of the {one} domain that laboratory values propose")
            for one in proposals
        },
    }


ESSDAI = Measure(
    name="essdai",
    function=essdai,
    title="ESSDAI, systemic activity (0-123)",
    needs=(*_DOMAINS, "biological", "essdai"),
    columns=_columns("essdai", "ESSDAI", DOMAINS),
)
CLINESSDAI = Measure(
    name="clinessdai",
    function=clinessdai,
    title="ClinESSDAI, systemic activity without the biological domain (0-135)",
    needs=(*_DOMAINS, "clinessdai"),
    columns=_columns("clinessdai", "ClinESSDAI", ("haematological",)),
)
