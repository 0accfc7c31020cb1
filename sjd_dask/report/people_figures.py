"""The figures of all people: shares of states, and distributions of scores; few people are never drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from sjd_dask.report.figures import GRID, INK, MUTED, to_svg
from sjd_dask.report.format import count, number, plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

HIDDEN = "too few to show"
OPEN_COLOR, NOT_COLOR, HIDDEN_COLOR = "#c9d1da", "#8fb3d6", "white"


def shares(rows: Sequence[Any], colors: Mapping[str, str], words: Mapping[str, str] | None = None) -> str:
    """One bar a row, cut into the shares of its answers.

    Parameters
    ----------
    rows : sequence
        Each with ``title``, ``counts`` (answer -> people, None where not told) and ``untold`` (people whose answer is
        not told; None where even that is not: such a bar has no lengths).
    colors : mapping
        Answer -> colour, in the order of drawing.
    words : mapping, optional
        Answer -> what the legend calls it.
    """
    figure, (panel,) = _panels(12.6, 0.9 + 0.42 * len(rows), 1, 1)
    seen: list[str] = []
    for y, row in enumerate(rows):
        told = {} if row.untold is None else {answer: row.counts[answer] for answer in colors if row.counts.get(answer)}
        total = sum(told.values()) + (row.untold or 0)
        left = 0.0
        for answer, n in told.items():
            width = 100 * n / total
            panel.barh(y, width, left=left, height=0.68, color=colors[answer], lw=0, zorder=2)
            if width > 3.5:
                panel.text(left + width / 2, y, count(n), ha="center", va="center", fontsize=8.5,
                           color=_ink_on(colors[answer]), zorder=3)  # fmt: skip
            left += width
            seen.append(answer)
        if row.untold != 0:
            panel.barh(y, 100 - left, left=left, height=0.68, color=HIDDEN_COLOR, hatch="....", edgecolor=MUTED, lw=0.8,
                       zorder=2)  # fmt: skip
            seen.append(HIDDEN)
    panel.set_yticks(range(len(rows)), [plain(shorten(one.title, 34)) for one in rows], parse_math=False)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(0, 100)
    panel.set_xlabel("% of people")
    panel.tick_params(axis="y", length=0)
    names = words or {}
    handles = [
        Patch(color=color, lw=0, label=plain(shorten(names.get(one, one), 30)))
        for one, color in colors.items()
        if one in seen
    ]
    if HIDDEN in seen:
        handles.append(Patch(facecolor=HIDDEN_COLOR, hatch="....", edgecolor=MUTED, label=HIDDEN))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def _ink_on(color: str) -> str:
    """White on dark colours, ink on light ones."""
    red, green, blue = to_rgb(color)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "white"


def distributions(scores: Mapping[str, Any], scales: Mapping[str, Mapping[str, Any]], below: int) -> str:
    """One panel a score: a histogram of those whose score is known.

    Parameters
    ----------
    scores : mapping
        Score -> an object with ``edges`` and ``heights`` (None where not told).
    scales : mapping
        Score -> ``title``, ``cuts``.
    below : int
        The height at which a bin that is not told is drawn.
    """
    figure, panels = _panels(12.6, 3.2, 1, len(scores))
    for panel, (name, one), color in zip(panels, scores.items(), COLORS, strict=False):
        width = one.edges[1] - one.edges[0]
        top = max([n for n in one.heights if n] + [below, 1])
        for edge, n in zip(one.edges, one.heights, strict=False):
            if n is None:
                panel.bar(edge + width / 2, below, width=width * 0.92, color=HIDDEN_COLOR, hatch="....",
                edgecolor=MUTED,
                          lw=0.6, zorder=2)  # fmt: skip
            elif n:
                panel.bar(edge + width / 2, n, width=width * 0.92, color=color, lw=0, zorder=2)
        for i, (state, cut) in enumerate(scales[name]["cuts"].items()):
            panel.axvline(float(cut), color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=3)
            # One below the other: neighbouring cuts would write over one another.
            panel.annotate(f"{state}, from {number(cut)}", (float(cut), 1), (3, -1 - 9 * i), va="top", fontsize=7.5,
                           xycoords=("data", "axes fraction"), textcoords="offset points", color=INK)  # fmt: skip
        panel.set_xlim(one.edges[0], one.edges[-1])
        panel.set_ylim(0, top * 1.3)
        panel.grid(axis="y", color=GRID, lw=0.8)
        panel.set_title(scales[name]["title"], loc="left", fontsize=10.5, color=INK, pad=4)
        panel.set_ylabel("people")
    return to_svg(figure)


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
