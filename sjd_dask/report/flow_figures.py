"""Figures of how labels change, and of what tells groups apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from sjd_dask.report.figures import DOTS_2, INK, to_svg
from sjd_dask.report.format import natural_key, plain, shorten
from sjd_dask.report.layer_figures import _panels

# Half the width of a column, in columns; the space between groups of a column, as a share of its height.
HALF, GAP = 0.06, 0.03
# Thinner flows are no line on a screen.
LEAST = 5e-4


def alluvial(
    table: pd.DataFrame,
    keys: pd.Series | None,
    colors: Mapping[str, str],
    *,
    titles: Sequence[str],
    named: Sequence[int],
    unit: str,
) -> str:
    """Columns of labels side by side, and bands for those that go from one label to the next.

    Parameters
    ----------
    table : DataFrame
        A row for each sample or person, a column for each labelling; missing: not in that column.
    keys : Series or None
        What colours a band: the same label all along. None: the label on its left.
    colors : mapping
        Colours of labels.
    titles : sequence of str
        Below the columns.
    named : sequence of int
        Columns whose labels are written beside them; the others show counts alone.
    unit : str
        What a row is, in words.
    """
    figure, (axes,) = _panels(12.6, 4.6, 1, 1)
    columns = list(table.columns)
    most = int(table.notna().sum().max())
    places: list[dict[str, tuple[float, float]]] = []
    before: dict[str, tuple[float, float]] | None = None
    for i, column in enumerate(columns):
        before = _column(table, columns, i, before, most)
        places.append(before)
        for name, (bottom, height) in before.items():
            color = colors.get(name, DOTS_2) if keys is None or i in named else "#5b6673"
            axes.add_patch(Rectangle((i - HALF, bottom), 2 * HALF, height, color=color, lw=0, zorder=3))
            if height > 0.018:
                label = f"{int((table[column] == name).sum()):,}"
                label = f"{plain(shorten(name, 14))}  {label}" if i in named else label
                last = i == len(columns) - 1
                axes.text(
                    i + (HALF + 0.02 if last else -HALF - 0.02), bottom + height / 2, label,
                    ha="left" if last else "right", va="center", fontsize=8.5, color=INK, zorder=5,
                    bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.8},
                )  # fmt: skip
    for i in range(len(columns) - 1):
        _bands(axes, table, keys, colors, places[i], places[i + 1], i, most)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(1 + GAP * 8, -0.02)
    axes.autoscale_view(scalex=False)
    low = max(bottom + height for column in places for bottom, height in column.values())
    axes.set_ylim(low + 0.02, -0.02)
    axes.set_xticks(range(len(columns)), [plain(one) for one in titles], parse_math=False)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0, labelsize=10)
    axes.set_ylabel(f"{unit}", color=INK, size=10)
    return to_svg(figure)


def _column(
    table: pd.DataFrame, columns: list[str], i: int, before: dict[str, tuple[float, float]] | None, most: int
) -> dict[str, tuple[float, float]]:
    """Top and height of each label of a column; labels in the order of where their rows come from."""
    counts = table[columns[i]].value_counts()
    order = sorted(counts.index, key=natural_key)
    if before is not None:
        came = pd.crosstab(table[columns[i]], table[columns[i - 1]])
        middle = {name: top + height / 2 for name, (top, height) in before.items()}
        weight = {
            name: float(np.average([middle[one] for one in came.columns], weights=came.loc[name]))
            if name in came.index and came.loc[name].sum()
            else np.inf
            for name in order
        }
        order.sort(key=lambda name: weight[name])
    places, top = {}, 0.0
    for name in order:
        height = counts[name] / most
        places[name] = (top, height)
        top += height + GAP
    return places


def _bands(
    axes: Axes,
    table: pd.DataFrame,
    keys: pd.Series | None,
    colors: Mapping[str, str],
    left: dict[str, tuple[float, float]],
    right: dict[str, tuple[float, float]],
    i: int,
    most: int,
) -> None:
    own = pd.DataFrame({"a": table.iloc[:, i], "b": table.iloc[:, i + 1]})
    own["key"] = own["a"] if keys is None else keys
    flows = own.dropna().groupby(["a", "b", "key"], observed=True).size()
    at = {key: 0.0 for key in ("a", "b")}
    starts: dict[tuple[str, ...], float] = {}
    ends: dict[tuple[str, ...], float] = {}
    rank_a, rank_b = ({name: j for j, name in enumerate(side)} for side in (left, right))
    order_key = {name: j for j, name in enumerate(sorted(own["key"].dropna().unique(), key=natural_key))}
    # On the left the bands of a label lie in the order of where they go, on the right of where they come from.
    for side, place, target, spots in (("a", left, starts, rank_b), ("b", right, ends, rank_a)):
        for name, (top, _) in place.items():
            at[side] = top
            other = 1 if side == "a" else 0
            mine = [flow for flow in flows.index if flow[1 - other] == name]
            for flow in sorted(mine, key=lambda flow: (spots[flow[other]], order_key[flow[2]])):
                target[flow] = at[side]
                at[side] += flows[flow] / most
    for flow, count in flows.items():
        height = count / most
        if height < LEAST:
            continue
        x0, x1, y0, y1 = i + HALF, i + 1 - HALF, starts[flow], ends[flow]
        bend = (x1 - x0) * 0.45
        path = Path(
            [
                (x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1),
                (x1, y1 + height), (x1 - bend, y1 + height), (x0 + bend, y0 + height), (x0, y0 + height), (x0, y0),
            ],
            [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY],
        )  # fmt: skip
        axes.add_patch(PathPatch(path, facecolor=colors.get(str(flow[2]), DOTS_2), alpha=0.5, lw=0, zorder=2))


def profile_map(square: pd.DataFrame, colors: Mapping[str, str], label: str) -> str:
    """Features or modules by groups, coloured by a number around 0.

    Parameters
    ----------
    square : DataFrame
        Index features or modules, columns groups.
    colors : mapping
        Of the groups.
    label : str
        What the number is.
    """
    rows, columns = square.shape
    figure, (axes,) = _panels(max(6.2, 2.2 + 0.5 * columns), 0.9 + 0.2 * rows, 1, 1)
    values = square.to_numpy(dtype=float)
    most = max(0.5, float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.5)
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(columns), [plain(shorten(one, 14)) for one in square.columns], parse_math=False)
    axes.set_yticks(range(rows), [plain(shorten(str(one), 30)) for one in square.index], parse_math=False)
    axes.tick_params(length=0, labelsize=8.5)
    axes.xaxis.tick_top()
    for text, name in zip(axes.get_xticklabels(), square.columns, strict=True):
        text.set(color=colors.get(name, INK), fontweight="bold", fontsize=10)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.03, aspect=max(8, rows))
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(label, color=INK, size=10)
    bar.ax.tick_params(colors=INK, labelsize=9)
    return to_svg(figure)
