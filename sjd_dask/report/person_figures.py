"""The figures of a person: the axes as bars with what is open, and scores with their intervals, over visits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from sjd_dask.report.figures import GRID, INK, MUTED, to_svg
from sjd_dask.report.format import number, plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

# States on an axis that ask for treatment.
RAISED = frozenset({"active", "impaired", "high burden", "amplification"})
OPEN_FILL = "#dfe4ea"
# Inches that a figure is wide, that a character of a tick takes, and that lie between two ticks.
WIDTH, CHARACTER, BETWEEN = 12.6, 0.082, 0.12
LONGEST_TICK = 12
# Room for the names of cuts, as a share of that of the visits.
FOR_CUTS = 0.5
# Up to so many visits a bar has room for words on one line, and on two; above it has none.
ONE_LINE, FEW_VISITS = 5, 9


def axes_over_visits(visits: pd.DataFrame, axes: pd.DataFrame) -> str:
    """One row of bars an axis, one bar a visit: its percentile, and the range it may have.

    Parameters
    ----------
    visits : DataFrame
        In order: ``label``, ``axisN_state``, ``axisN_percentile_min`` and ``_max`` (0-100), ``axisN_position_min`` and
        ``_max``, ``dominant``.
    axes : DataFrame
        ``number``, ``name``, ``title``, ``unit``.

    Notes
    -----
    Positions in their own units stand in where the reference has no percentiles.
    """
    n = len(visits)
    measure = "percentile" if has_percentiles(visits, axes) else "position"
    figure, panels = _panels(WIDTH, 1.0 + 1.75 * len(axes), len(axes), 1, sharex=True)
    for i, (panel, (_, axis)) in enumerate(zip(panels, axes.iterrows(), strict=True)):
        name, color = f"axis{axis['number']}", COLORS[i]
        low, high = (visits[f"{name}_{measure}_{end}"].to_numpy(dtype=float) for end in ("min", "max"))
        states = visits[f"{name}_state"].astype(object)
        top = 100.0 if measure == "percentile" else max([*high[~np.isnan(high)], 1.0])
        for at in range(n):
            if np.isnan(low[at]) or np.isnan(high[at]):
                words = "not known" if n <= FEW_VISITS else "?"
                panel.text(at, 0.04 * top, words, ha="center", fontsize=8.5, color=MUTED)
                continue
            state = None if pd.isna(states.iloc[at]) else str(states.iloc[at])
            dominant = str(visits["dominant"].iloc[at]) == axis["name"]
            strength = 0.9 if state in RAISED else 0.4
            panel.bar(at, low[at], width=0.5, color=color, alpha=strength, lw=0, zorder=2)
            panel.bar(at, high[at] - low[at], bottom=low[at], width=0.5, color=OPEN_FILL, hatch="////", edgecolor=MUTED,
                      lw=0.8, zorder=2)  # fmt: skip
            if dominant:
                panel.bar(at, high[at], width=0.5, fill=False, edgecolor=INK, lw=2.0, zorder=3)
            if n <= FEW_VISITS:
                words = _bar_words(state, low[at], high[at], ", " if n <= ONE_LINE else "\n")
                panel.text(
                    at,
                    high[at] + 0.03 * top,
                    words,
                    ha="center",
                    va="bottom",
                    fontsize=8.5,
                    color=INK,
                    parse_math=False,
                )
        panel.set_ylim(0, (1.19 if n <= ONE_LINE or n > FEW_VISITS else 1.36) * top)
        if measure == "percentile":
            panel.set_yticks([0, 50, 100])
        else:
            panel.set_ylabel(measure)
        panel.grid(axis="y", color=GRID, lw=0.8)
        panel.set_title(f"{axis['number']}  {axis['title']}", loc="left", fontsize=10.5, color=INK, pad=4)
    if measure == "percentile":
        panels[len(axes) // 2].set_ylabel(measure)
    _visit_ticks(panels[-1], visits["label"], WIDTH)
    handles = [
        Patch(color=MUTED, alpha=0.9, lw=0, label="active, impaired or high burden"),
        Patch(color=MUTED, alpha=0.4, lw=0, label="not, or open"),
        Patch(facecolor=OPEN_FILL, hatch="////", edgecolor=MUTED, label="as high as the missing items allow"),
        Patch(fill=False, edgecolor=INK, lw=2.0, label="dominant axis"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def has_percentiles(visits: pd.DataFrame, axes: pd.DataFrame) -> bool:
    """Whether any visit has a percentile on any axis: a reference of few people gives none."""
    return any(visits[f"axis{number}_percentile_max"].notna().any() for number in axes["number"])


def _bar_words(state: str | None, low: float, high: float, between: str) -> str:
    ends = number(low, 3) if low == high else f"{number(low, 3)} to {number(high, 3)}"
    return f"{state or 'open'}{between}{ends}"


def scores_over_visits(visits: pd.DataFrame, scores: Sequence[str], scales: Mapping[str, Mapping[str, Any]]) -> str:
    """One panel a score: a dot where it is known, a line over all it may be where it isn't.

    Parameters
    ----------
    visits : DataFrame
        In order: ``label``, and for each score its own column, ``_min`` and ``_max``.
    scores : sequence of str
    scales : mapping
        Score -> ``title``, ``ends``, ``cuts`` (state -> the value it begins at).
    """
    n = len(visits)
    figure, panels = _panels(WIDTH, 3.3, 1, len(scores))
    x = np.arange(n)
    for panel, name, color in zip(panels, scores, COLORS, strict=False):
        scale = scales[name]
        value, low, high = (visits[f"{name}{end}"].to_numpy(dtype=float) for end in ("", "_min", "_max"))
        panel.vlines(x, low, high, color=color, alpha=0.35, lw=min(7.0, 120 / n), zorder=2)
        panel.plot(x, value, color=color, lw=1.2, alpha=0.6, zorder=2)
        panel.scatter(x, value, s=min(48.0, 900 / n), color=color, linewidths=0, zorder=3)
        cuts = {state: float(cut) for state, cut in scale["cuts"].items()}
        seen = high[~np.isnan(high)]
        top = max([*seen, *cuts.values(), 1.0])
        for state, cut in cuts.items():
            panel.axhline(cut, color=MUTED, lw=0.8, ls=(0, (4, 3)), zorder=1)
            panel.annotate(f"{state}, from {number(cut)}", (1, cut), (-2, 2), xycoords=("axes fraction", "data"),
                           textcoords="offset points", ha="right", fontsize=7.5, color=INK)  # fmt: skip
        panel.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        panel.set_ylim(-0.05 * top, min(float(scale["ends"][1]), top * 1.15) + 0.05 * top)
        panel.grid(axis="y", color=GRID, lw=0.8)
        panel.set_title(scale["title"], loc="left", fontsize=10.5, color=INK, pad=4)
        _visit_ticks(panel, visits["label"], WIDTH / len(scores) / (1 + FOR_CUTS))
        # Names of the cuts stand beside the visits: over them they would hide a dot.
        panel.set_xlim(-0.6, (n - 0.4) + FOR_CUTS * n)
    handles = [
        Line2D([], [], ls="", marker="o", ms=7, mfc=MUTED, mec=MUTED, label="known"),
        Line2D([], [], color=MUTED, alpha=0.35, lw=7, label="as low or high as the missing items allow"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def _visit_ticks(panel: Any, labels: pd.Series, width: float) -> None:
    """As many visits by name as a panel of `width` inches has room for; the first is one of them."""
    texts = [shorten(str(one), LONGEST_TICK) for one in labels]
    room = width - 2 * LONGEST_TICK * CHARACTER / 2
    most = max(2, int(room / (max(map(len, texts)) * CHARACTER + BETWEEN)))
    places = np.arange(len(labels))[:: -(-len(labels) // most)]
    panel.set_xticks(places, [plain(texts[i]) for i in places], parse_math=False)
    panel.set_xlim(-0.6, len(labels) - 0.4)
    panel.tick_params(axis="x", length=0)
    panel.set_xlabel("visit")
