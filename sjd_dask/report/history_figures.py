"""The figure of a person: calls and confidence over visits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.lines import Line2D

from sjd_dask import names
from sjd_dask.report.figures import GRID, INK, MUTED, UP, to_svg
from sjd_dask.report.format import plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

# Shape of a status.
MARKERS = {"called": "o", "abstained": "o", "out_of_distribution": "X", "missing_data": "s", "pending_batch": "D",
           "not_eligible": "v"}  # fmt: skip
NO_CLASS = "no class"
MOST_TICKS = 24


def over_visits(calls: pd.DataFrame, classes: Sequence[str]) -> str:
    """Class and confidence of each call, by date where all have one, else in order of visits.

    Parameters
    ----------
    calls : DataFrame
        As :func:`sjd_dask.report.history_page.render_history` takes them.
    classes : sequence of str
    """
    live = calls["retired_in"].isna().to_numpy()
    x, is_date = _places(calls)
    lanes = [*classes, NO_CLASS] if calls["top_class"].isna().any() else list(classes)
    lane = {name: i for i, name in enumerate(lanes)}
    y = np.array([lane[NO_CLASS] if pd.isna(one) else lane[str(one)] for one in calls["top_class"]], dtype=float)
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(classes)} | {NO_CLASS: MUTED}
    figure, (top, low) = _panels(12.6, 2.6 + 0.45 * len(lanes), 2, 1, sharex=True)
    top.get_gridspec().set_height_ratios([max(2.0, 0.8 * len(lanes)), 2.0])  # type: ignore[union-attr]
    _reported(top, calls, live, x, lane, colors)
    for i in range(len(calls)):
        status, own = str(calls["status"].iloc[i]), lanes[int(y[i])]
        called = status == "called"
        color = colors[own] if live[i] else MUTED
        size = 90 if live[i] else 26
        fill: dict[str, Any] = {"color": color, "linewidths": 0} if called else {
            "facecolors": "white", "edgecolors": UP if status == "out_of_distribution" and live[i] else color,
            "linewidths": 1.6 if live[i] else 1.0,
        }  # fmt: skip
        order = 4 if live[i] else 3
        # Replaced calls lie a little below, so that an equal one is seen.
        top.scatter(
            x[i], y[i] + (0 if live[i] else 0.24), s=size, marker=MARKERS.get(status, "o"), zorder=order, **fill
        )
        confidence = calls["confidence"].iloc[i]
        if pd.notna(confidence):
            low.scatter(x[i], float(confidence), s=size, marker=MARKERS.get(status, "o"), zorder=order, **fill)
    top.set_yticks(range(len(lanes)), [plain(shorten(one, 20)) for one in lanes], parse_math=False)
    top.set_ylim(len(lanes) - 0.5, -0.5)
    top.tick_params(axis="y", length=0)
    for place in range(len(lanes)):
        top.axhline(place, color=GRID, lw=0.8, zorder=0)
    low.set_ylim(0, 1.05)
    low.set_ylabel("confidence")
    low.grid(axis="y", color=GRID, lw=0.8)
    margin = max(float(np.ptp(x)) * 0.04, 0.5 if not is_date else 20.0)
    low.set_xlim(x.min() - margin, x.max() + margin)
    if is_date:
        locator = AutoDateLocator(minticks=3, maxticks=10)
        low.xaxis.set_major_locator(locator)
        low.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        places, first = np.unique(x, return_index=True)
        step = -(-len(places) // MOST_TICKS)
        labels = [_label(calls.iloc[i]) for i in first]
        low.set_xticks(places[::step], [plain(shorten(one, 12)) for one in labels[::step]], parse_math=False)
        low.set_xlabel("visit")
    shown = [one for one in MARKERS if one in set(calls["status"])]
    handles = [
        Line2D([], [], ls="", marker=MARKERS[one], ms=8, mec=UP if one == "out_of_distribution" else INK, mew=1.4,
               mfc=INK if one == "called" else "white", label=one.replace("_", " "))
        for one in shown
    ]  # fmt: skip
    if (~live).any():
        handles.append(Line2D([], [], ls="", marker="o", ms=5, mec=MUTED, mfc=MUTED, label="replaced since"))
    figure.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def _reported(
    axes: Any, calls: pd.DataFrame, live: np.ndarray, x: np.ndarray, lane: dict[str, int], colors: dict[str, str]
) -> None:
    """A band on the lane of the class that is reported, from each visit to the next."""
    if "reported" not in calls:
        return
    rows = np.flatnonzero(live & calls["reported"].notna().to_numpy())
    if not rows.size:
        return
    said = calls["reported"].iloc[rows].astype(str).to_numpy()
    starts = [i for i in range(len(rows)) if i == 0 or said[i] != said[i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        if said[start] in lane:
            until = x[rows[min(stop, len(rows) - 1)]]
            axes.plot(
                [x[rows[start]], until], [lane[said[start]]] * 2, color=colors[said[start]], alpha=0.25, lw=15,
                solid_capstyle="round" if until == x[rows[start]] else "butt", zorder=1,
            )  # fmt: skip


def _places(calls: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """Where each call is drawn: its date as a number of days, or the number of its sample."""
    samples = pd.factorize(calls[names.SAMPLE_ID])[0].astype(float)
    dates = calls[names.DATE]
    if dates.notna().all():
        try:
            moments = pd.to_datetime(dates.astype(str), format="ISO8601", utc=True)
        except ValueError:
            return samples, False
        return np.asarray(date2num(moments.dt.tz_localize(None).to_numpy()), dtype=float), True
    return samples, False


def _label(row: pd.Series) -> str:
    for name in (names.VISIT, names.DATE, names.SAMPLE_ID):
        if pd.notna(row[name]):
            value = row[name]
            return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return ""
