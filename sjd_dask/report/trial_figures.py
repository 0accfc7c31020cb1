"""Figures of a trial: who is left after each criterion, who could enter, persons needed, effects by stratum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sjd_dask.report.figures import GRID, INK, MUTED, to_svg
from sjd_dask.report.format import count, number, plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

SURE, OPEN, OUT = "#1f5fa8", "#a9c6e6", "#dfe4e8"
_PARTS = (("eligible", "may enter", SURE), ("undetermined", "undetermined", OPEN),
          ("not_eligible", "may not enter", OUT))  # fmt: skip


def funnel(labels: Sequence[str], certain: Sequence[float | None], left: Sequence[float | None]) -> str:
    """Persons left after each criterion; a count that isn't shown has no bar.

    Parameters
    ----------
    labels : sequence of str
        The first is all who were screened.
    certain, left : sequence of float or None
        Persons who passed all so far, and those who failed none so far.
    """
    figure, (axes,) = _panels(12.6, 0.9 + 0.44 * len(labels), 1, 1)
    most = max([one for one in left if one is not None], default=1) or 1
    last: float = 0
    for i, (sure, rest) in enumerate(zip(certain, left, strict=True)):
        if rest is None:
            axes.barh(i, last, color="white", edgecolor=OPEN, linestyle=(0, (3, 2)), height=0.66)
            axes.text(last + most * 0.008, i, "* few persons fewer, or few left", va="center", color=MUTED, fontsize=9)
            continue
        last = rest
        axes.barh(i, rest, color=OPEN, height=0.66)
        axes.barh(i, rest if sure is None else sure, color=OPEN if sure is None else SURE, height=0.66)
        text = count(rest) if sure in (None, rest) else f"{count(rest)}, {count(sure)} for sure"
        axes.text(rest + most * 0.008, i, text, va="center", color=INK, fontsize=9)
    axes.set_yticks(range(len(labels)), [plain(shorten(one, 48)) for one in labels], parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.16)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.set_xlabel("persons left (dark: every criterion so far is known to be met)")
    axes.grid(axis="x", color=GRID, lw=0.8)
    return to_svg(figure)


def by_group(groups: Sequence[tuple[str, str]], counts: Sequence[dict[str, int | None]]) -> str:
    """Persons of each level: may enter, undetermined, may not.

    Parameters
    ----------
    groups : sequence of (by, level)
    counts : sequence of dict
        ``eligible``, ``undetermined``, ``not_eligible``; None where a count isn't shown.
    """
    breaks = [i for i in range(1, len(groups)) if groups[i][0] != groups[i - 1][0]]
    y = np.arange(len(groups)) + 0.5 * np.searchsorted(breaks, np.arange(len(groups)), side="right")
    figure, (axes,) = _panels(12.6, 1.3 + 0.4 * (y[-1] + 1), 1, 1)
    most = max((sum(n or 0 for n in row.values()) for row in counts), default=1) or 1
    for place, row in zip(y, counts, strict=True):
        start = 0
        for key, _, color in _PARTS:
            axes.barh(place, row[key] or 0, left=start, color=color, height=0.7)
            start += row[key] or 0
        said = " / ".join("*" if row[key] is None else count(row[key]) for key, _, _ in _PARTS)
        axes.text(start + most * 0.008, place, said, va="center", color=INK, fontsize=9)
    labels = [level if by == level else f"{by}: {level}" for by, level in groups]
    axes.set_yticks(y, [plain(shorten(one, 44)) for one in labels], parse_math=False)
    axes.set_ylim(y[-1] + 0.6, -0.6)
    axes.set_xlim(0, most * 1.16)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("persons screened")
    handles = [axes.barh(0, 0, color=color, label=label) for _, label, color in _PARTS]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def sizes(labels: Sequence[str], enrolled: Sequence[float], screened: Sequence[float]) -> str:
    """Persons to screen and to enrol in each design."""
    figure, (axes,) = _panels(12.6, 1.4 + 0.55 * len(labels), 1, 1)
    most = max(screened)
    # Where many more are screened than enrolled, both are seen on a scale of factors only.
    if most > 30 * min(enrolled):
        axes.set_xscale("log")
        axes.set_xlim(min(enrolled) * 0.7, most * 2.2)
    else:
        axes.set_xlim(0, most * 1.18)
    for i, (inside, all_of_them) in enumerate(zip(enrolled, screened, strict=True)):
        axes.barh(i, all_of_them, color=OPEN, height=0.66)
        axes.barh(i, inside, color=SURE, height=0.66)
        axes.text(
            all_of_them * 1.01, i, f" {count(inside)} of {count(all_of_them)}", va="center", color=INK, fontsize=9
        )
    axes.set_yticks(range(len(labels)), [plain(shorten(one, 44)) for one in labels], parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.set_xlabel("persons: enrolled (dark) of those screened")
    axes.grid(axis="x", color=GRID, lw=0.8)
    return to_svg(figure)


def forest(rows: pd.DataFrame, *, axis_label: str, better: str, ratio: bool) -> str:
    """Effects with 95 % intervals by stratum.

    Parameters
    ----------
    rows : DataFrame
        In order of drawing: ``by`` (shown where it changes), ``level``, ``arm``, ``n`` (text), ``effect``, ``low``,
        ``high`` (of a ratio, of the ratio itself), ``reason``; a missing effect is not drawn.
    axis_label : str
    better : str
        ``left`` or ``right``: the side on which the arm does better than the control.
    ratio : bool
        A logarithmic axis around 1, in place of a linear one around 0.
    """
    heads = [i for i in range(len(rows)) if i == 0 or rows["by"].iloc[i] != rows["by"].iloc[i - 1]]
    y = np.arange(len(rows)) + np.searchsorted(heads, np.arange(len(rows)), side="right") * 1.0
    figure, (axes,) = _panels(12.6, 1.6 + 0.4 * (y[-1] + 1), 1, 1)
    ends = rows[["low", "high", "effect"]].to_numpy(dtype=float)
    none = 1.0 if ratio else 0.0
    found = ends[np.isfinite(ends)]
    low, high = _reach(found, none, ratio)
    arms = list(dict.fromkeys(rows["arm"]))
    colors = {arm: COLORS[i % len(COLORS)] for i, arm in enumerate(arms)}
    counts = rows["weight"].to_numpy(dtype=float)
    size = 40 + 110 * np.sqrt(counts / max(np.nanmax(counts), 1))
    if ratio:
        axes.set_xscale("log")
    axes.set_xlim(low, high)
    for i in range(len(rows)):
        row = rows.iloc[i]
        if not np.isfinite(row["effect"]):
            axes.text(none, y[i], " " + plain(shorten(str(row["reason"]) or "not shown", 70)), va="center", color=MUTED,
                      fontsize=8.5)  # fmt: skip
            continue
        color = colors[row["arm"]]
        a, b = (float(np.clip(one, low, high)) for one in (row["low"], row["high"]))
        axes.plot([a, b], [y[i], y[i]], color=color, lw=2, solid_capstyle="butt", zorder=2)
        for end, real, mark in ((a, row["low"], "<"), (b, row["high"], ">")):
            if end != real and np.isfinite(real):
                axes.scatter(end, y[i], marker=mark, color=color, s=40, zorder=3, clip_on=False)
        if low <= row["effect"] <= high:
            axes.scatter(row["effect"], y[i], marker="D" if row["level"] == "all" else "s", s=size[i], color=color,
                         zorder=4, linewidths=0)  # fmt: skip
        said = f"{number(row['effect'], 3)} ({number(row['low'], 3)} to {number(row['high'], 3)})"
        axes.text(1.01, y[i], f"{said}   {row['n']}", transform=axes.get_yaxis_transform(), va="center", color=INK,
                  fontsize=9)  # fmt: skip
    several = len(arms) > 1
    labels = [f"{row.level}, {row.arm}" if several else str(row.level) for row in rows.itertuples()]
    axes.set_yticks(y, [plain(shorten(one, 40)) for one in labels], parse_math=False)
    for i in heads:
        axes.text(-0.012, y[i] - 1, plain(shorten(str(rows["by"].iloc[i]), 40)), transform=axes.get_yaxis_transform(),
                  ha="right", va="center", color=INK, fontsize=9.5, fontweight="bold", parse_math=False)  # fmt: skip
    axes.text(1.01, y[0] - 1, "effect (95 %)   persons, arm / control", transform=axes.get_yaxis_transform(),
              va="center", color=MUTED, fontsize=9)  # fmt: skip
    axes.set_ylim(y[-1] + 0.7, y[0] - 1.6)
    axes.tick_params(axis="y", length=0)
    axes.axvline(none, color=INK, lw=1, zorder=1)
    if ratio:
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 3).replace("-", "−")))
    axes.grid(axis="x", color=GRID, lw=0.8)
    side = "← arm better" if better == "left" else "arm better →"
    axes.set_xlabel(f"{plain(axis_label)}      {side.replace('←', '<').replace('→', '>')}")
    return to_svg(figure)


def _reach(found: np.ndarray[Any, Any], none: float, ratio: bool) -> tuple[float, float]:
    """Ends of the axis: all there is, but for intervals that would press the others into a line."""
    if not found.size:
        return (0.1, 10.0) if ratio else (-1.0, 1.0)
    values = np.log(found) if ratio else found
    middle = np.log(none) if ratio else none
    reach = np.abs(values - middle)
    # Of three numbers a row, the two thirds in the middle say how wide the axis must be.
    wide = float(min(reach.max(), max(4 * np.quantile(reach, 0.67), 1e-9))) * 1.05
    low = max(float(values.min()) - 0.04 * wide, middle - wide)
    high = min(float(values.max()) + 0.04 * wide, middle + wide)
    low, high = min(low, middle - 0.08 * wide), max(high, middle + 0.08 * wide)
    return (float(np.exp(low)), float(np.exp(high))) if ratio else (low, high)
