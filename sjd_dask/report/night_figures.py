"""The figures of a night: how far its samples lie from the model's reference, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from sjd_dask.report.figures import DOTS, GRID, INK, MUTED, UP, to_svg
from sjd_dask.report.format import plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

WARN_COLOR = "#b26a00"
LEVEL_COLORS = {"none": DOTS, "warn": WARN_COLOR, "hold": UP}
LEVEL_NAMES = {"none": "as the reference", "warn": "warns", "hold": "holds back"}
DISTANCES = (("psi", "population stability index"), ("ks", "Kolmogorov-Smirnov statistic"))
STATUS_COLORS = {
    "called": COLORS[2], "abstained": "#b7c0ca", "out_of_distribution": UP, "missing_data": WARN_COLOR,
    "pending_batch": "#cc79a7", "not_eligible": "#dfe4e9",
}  # fmt: skip


def distances(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, Any]) -> str:
    """Distance of each variable from the reference, by both measures, beside what chance gives.

    Parameters
    ----------
    rows : sequence of mapping
        ``variable``, ``psi``, ``psi_limit``, ``ks``, ``ks_limit``, ``level``; the first is drawn on top.
    limits : mapping
        ``warn`` and ``hold``, each with ``psi`` and ``ks``: drawn as lines.
    """
    figure, panels = _panels(12.6, 1.5 + 0.21 * len(rows), 1, 2)
    places = np.arange(len(rows))
    for axes, (name, title) in zip(panels, DISTANCES, strict=True):
        values = np.array([np.nan if one[name] is None else one[name] for one in rows], dtype=float)
        chance = np.array([np.nan if one[f"{name}_limit"] is None else one[f"{name}_limit"] for one in rows])
        axes.barh(places, chance, 0.86, color="#eef1f4", lw=0, zorder=0)
        for level in ("warn", "hold"):
            line = (limits.get(level) or {}).get(name)
            if line is not None:
                axes.axvline(line, color=LEVEL_COLORS[level], lw=1.0, ls=(0, (4, 3)), zorder=1)
        axes.hlines(places, 0, values, color=GRID, lw=1.2, zorder=2)
        axes.scatter(values, places, s=26, c=[LEVEL_COLORS[str(one["level"])] for one in rows], linewidths=0, zorder=3)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(places, [plain(shorten(str(one["variable"]), 26)) for one in rows], parse_math=False)
    panels[1].set_yticks([])
    handles = [
        Line2D([], [], ls="", marker="o", ms=6, mew=0, color=color, label=LEVEL_NAMES[level])
        for level, color in LEVEL_COLORS.items()
    ]
    handles.append(Line2D([], [], color="#eef1f4", lw=8, label="what chance gives"))
    handles.append(Line2D([], [], color=MUTED, lw=1.0, ls=(0, (4, 3)), label="levels of warn and hold"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def statuses(rows: Sequence[Mapping[str, Any]]) -> str:
    """Samples by status, one bar for tonight and one for the night before; hidden counts are left out.

    Parameters
    ----------
    rows : sequence of mapping
        ``status``, ``n``, and ``before`` or no such key.
    """
    bars = (
        [("before", "night before"), ("n", "tonight")] if any("before" in one for one in rows) else [("n", "tonight")]
    )
    figure, (axes,) = _panels(12.6, 0.9 + 0.42 * len(bars), 1, 1)
    for place, (key, _) in enumerate(bars):
        left = 0
        for row in rows:
            n = row.get(key) or 0
            axes.barh(place, n, 0.62, left=left, color=STATUS_COLORS.get(str(row["status"]), DOTS), lw=0)
            left += n
    axes.set_yticks(range(len(bars)), [label for _, label in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0)
    axes.set_xlabel("samples")
    handles = [
        Line2D([], [], ls="", marker="s", ms=8, mew=0, color=STATUS_COLORS.get(str(one["status"]), DOTS),
               label=str(one["status"]).replace("_", " "))
        for one in rows
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK,
        handletextpad=0.2,
    )  # fmt: skip
    return to_svg(figure)
