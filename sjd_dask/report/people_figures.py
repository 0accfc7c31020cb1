"""The figures of all people: shares of states, and distributions of scores; few people are never drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from sjd_dask.report.figures import GRID, INK, MUTED, to_svg
from sjd_dask.report.format import count, number, plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels
from sjd_dask.report.suppress import suppress

HIDDEN = "too few to show"
OPEN_COLOR, NOT_COLOR, HIDDEN_COLOR = "#c9d1da", "#8fb3d6", "white"
BINS = 20


def shares(rows: Sequence[tuple[str, Mapping[str, int | None], int]], colors: Mapping[str, str]) -> str:
    """One bar a row, cut into the shares of its answers.

    Parameters
    ----------
    rows : sequence of (title, counts, hidden)
        Counts by answer, None where a count is not shown; `hidden` is the sum of those.
    colors : mapping
        Answer -> colour, in the order of drawing.
    """
    figure, (panel,) = _panels(12.6, 0.9 + 0.42 * len(rows), 1, 1)
    seen: list[str] = []
    for y, (_, counts, hidden) in enumerate(rows):
        total = sum(n for n in counts.values() if n) + hidden
        left = 0.0
        for answer in colors:
            n = counts.get(answer)
            if n:
                width = 100 * n / total
                panel.barh(y, width, left=left, height=0.68, color=colors[answer], lw=0, zorder=2)
                if width > 3.5:
                    text = count(n)
                    panel.text(
                        left + width / 2,
                        y,
                        text,
                        ha="center",
                        va="center",
                        fontsize=8.5,
                        color=_ink_on(colors[answer]),
                        zorder=3,
                    )
                left += width
                seen.append(answer)
        if hidden:
            panel.barh(y, 100 - left, left=left, height=0.68, color=HIDDEN_COLOR, hatch="....", edgecolor=MUTED, lw=0.8,
                       zorder=2)  # fmt: skip
            seen.append(HIDDEN)
    panel.set_yticks(range(len(rows)), [plain(shorten(one[0], 34)) for one in rows], parse_math=False)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(0, 100)
    panel.set_xlabel("% of people")
    panel.tick_params(axis="y", length=0)
    handles = [Patch(color=colors[one], lw=0, label=plain(shorten(one, 30))) for one in colors if one in seen]
    if HIDDEN in seen:
        handles.append(Patch(facecolor=HIDDEN_COLOR, hatch="....", edgecolor=MUTED, label=HIDDEN))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def _ink_on(color: str) -> str:
    """White on dark colours, ink on light ones."""
    red, green, blue = to_rgb(color)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "white"


def distributions(values: Mapping[str, np.ndarray], scales: Mapping[str, Mapping[str, Any]], below: int) -> str:
    """One panel a score: a histogram of those whose score is known.

    Parameters
    ----------
    values : mapping
        Score -> known values, (n,).
    scales : mapping
        Score -> ``title``, ``cuts``.
    below : int
        A bin of fewer people is drawn as such, not with its height.
    """
    figure, panels = _panels(12.6, 3.2, 1, len(values))
    for panel, (name, known), color in zip(panels, values.items(), COLORS, strict=False):
        heights, edges = _bins(known, float(scales[name]["ends"][1]))
        kept, _ = suppress(dict(enumerate(heights.tolist())), below)
        width = edges[1] - edges[0]
        top = max([n for n in kept.values() if n] + [below, 1])
        for i, n in kept.items():
            if n is None:
                panel.bar(edges[i] + width / 2, below, width=width * 0.92, color=HIDDEN_COLOR, hatch="....",
                          edgecolor=MUTED, lw=0.6, zorder=2)  # fmt: skip
            elif n:
                panel.bar(edges[i] + width / 2, n, width=width * 0.92, color=color, lw=0, zorder=2)
        for state, cut in scales[name]["cuts"].items():
            panel.axvline(float(cut), color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=3)
            panel.annotate(f"{state}, from {number(cut)}", (float(cut), 1), (3, -1), xycoords=("data", "axes fraction"),
                           textcoords="offset points", va="top", fontsize=7.5, color=INK)  # fmt: skip
        panel.set_xlim(edges[0], edges[-1])
        panel.set_ylim(0, top * 1.2)
        panel.grid(axis="y", color=GRID, lw=0.8)
        panel.set_title(scales[name]["title"], loc="left", fontsize=10.5, color=INK, pad=4)
        panel.set_ylabel("people")
    return to_svg(figure)


def _bins(known: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Bins of a round width over what was seen; values on an edge belong to the bin above it."""
    reach = min(most, max(float(known.max()), 1.0)) if known.size else 1.0
    width = next((one for one in (0.5, 1, 2, 5, 10) if reach / one <= BINS), 10)
    edges = np.arange(0, reach + width * 1.001, width)
    heights, _ = np.histogram(known, bins=np.append(edges[:-1], max(edges[-1], reach + 1e-9)))
    return heights, edges


def bars(labels: Sequence[str], values: Sequence[float], xlabel: str) -> str:
    """Horizontal bars, the longest first."""
    figure, (panel,) = _panels(12.6, 0.8 + 0.3 * len(labels), 1, 1)
    panel.barh(range(len(labels)), values, height=0.66, color=COLORS[0], alpha=0.75, lw=0, zorder=2)
    panel.set_yticks(range(len(labels)), [plain(shorten(one, 44)) for one in labels], parse_math=False)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.set_xlim(0, 100)
    panel.set_xlabel(xlabel)
    panel.grid(axis="x", color=GRID, lw=0.8)
    panel.tick_params(axis="y", length=0)
    return to_svg(figure)
