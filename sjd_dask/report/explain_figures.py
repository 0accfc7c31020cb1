"""The figures of an explanation: modules by group, what else explains the groups, scores, and moves between visits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from sjd_dask.report.figures import DOTS_2, INK, LINE, MUTED, to_svg
from sjd_dask.report.format import natural_key, plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

HEALTHY = "healthy"
HEALTHY_COLOR = "#9aa5b1"
MOST_MODULES = 40
# Cells of a map that hold their number.
MOST_NUMBERS = 240
# Scores beyond are drawn as this: one module must not take the colours of the others.
LARGEST = 4.0


def module_map(table: pd.DataFrame) -> str:
    """Mean score of each module in each group; the healthy are 0.

    Parameters
    ----------
    table : DataFrame
        Index modules, one column a group; standard deviations of the healthy.
    """
    values = table.to_numpy(dtype=float)
    height = 1.1 + max(0.24 * len(table), 1.0)
    figure, (axes,) = _panels(3.4 + 0.9 * len(table.columns), height, 1, 1)
    limit = float(np.clip(np.nanmax(np.abs(values)) if np.isfinite(values).any() else 1.0, 1.0, LARGEST))
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(table.columns)))
    axes.set_xticklabels([plain(shorten(str(one), 12)) for one in table.columns], parse_math=False)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(table)))
    axes.set_yticklabels([plain(shorten(str(one), 40)) for one in table.index], parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if values.size <= MOST_NUMBERS:
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 * limit else INK
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=8.5, color=color)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("mean score, SD of the healthy", color=INK, size=9.5)
    bar.ax.tick_params(colors=INK, labelsize=8.5)
    return to_svg(figure)


def shares(table: pd.DataFrame) -> str:
    """Share of the grouping that each set of columns explains, by itself and beyond the composition of cells.

    Parameters
    ----------
    table : DataFrame
        ``what``, ``beyond``, ``share``, ``chance_95``; rows without a share are left out.
    """
    known = table[table["share"].notna()]
    whats = list(dict.fromkeys(known["what"]))
    figure, (axes,) = _panels(6.2, 1.25 + 0.56 * max(1, len(whats)), 1, 1)
    for i, name in enumerate(whats):
        own = known[known["what"] == name]
        both = len(own) > 1
        for shift, row in zip((-0.19, 0.19) if both else (0.0,), own.to_dict("records"), strict=True):
            share, chance = 100 * float(row["share"]), 100 * max(0.0, float(row["chance_95"]))
            axes.barh(i + shift, max(share, 0.0), 0.34, color=DOTS_2 if row["beyond"] else LINE, zorder=2)
            axes.text(max(share, 0.0), i + shift, f" {max(share, 0.0):.1f}", va="center", fontsize=9, color=INK)
            axes.plot([chance, chance], [i + shift - 0.17, i + shift + 0.17], color=INK, lw=1.2, zorder=3)
    axes.set_yticks(range(len(whats)))
    axes.set_yticklabels([plain(shorten(str(name), 28)) for name in whats], parse_math=False)
    axes.set_ylim(len(whats) - 0.5, -0.5)
    axes.set_xlim(0, max(100 * float(known["share"].max()) * 1.16, 5.0))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the grouping explained, % (cross-validated)")
    handles = [Line2D([], [], color=LINE, lw=7, label="by itself")]
    if (known["beyond"] != "").any():
        handles.append(Line2D([], [], color=DOTS_2, lw=7, label="beyond composition"))
    handles.append(Line2D([], [], ls="", marker="|", ms=10, mew=1.2, color=INK, label="95 % of chance"))
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, frameon=False, fontsize=9,
        labelcolor=INK, handlelength=1.2,
    )  # fmt: skip
    return to_svg(figure)


def score_boxes(table: pd.DataFrame, modules: list[str]) -> str:
    """Scores of samples by group, one panel a module: median, quartiles, 5 to 95 %.

    Parameters
    ----------
    table : DataFrame
        ``module``, ``group``, ``score``.
    modules : list of str
    """
    groups = sorted(table["group"].dropna().unique(), key=lambda one: (one != HEALTHY, natural_key(one)))
    colors = dict(zip([one for one in groups if one != HEALTHY], COLORS * 5, strict=False)) | {HEALTHY: HEALTHY_COLOR}
    figure, panels = _panels(12.6, 3.2, 1, len(modules))
    for axes, name in zip(panels, modules, strict=True):
        own = table[table["module"] == name]
        axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
        for i, group in enumerate(groups):
            values = own.loc[own["group"] == group, "score"].dropna().to_numpy(dtype=float)
            if not values.size:
                continue
            low, q1, middle, q3, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            axes.plot([i, i], [low, high], color=colors[group], lw=1.4, zorder=2)
            axes.bar(i, q3 - q1, 0.6, bottom=q1, color=colors[group], alpha=0.55, lw=0, zorder=3)
            axes.plot([i - 0.3, i + 0.3], [middle, middle], color=INK, lw=1.5, zorder=4)
        axes.set_xticks(range(len(groups)))
        axes.set_xticklabels([plain(shorten(str(one), 8)) for one in groups], parse_math=False, fontsize=8.5)
        axes.tick_params(axis="x", length=0)
        axes.set_title(plain(shorten(name, 30)), loc="left", fontsize=10, color=INK, pad=4)
    panels[0].set_ylabel("score, SD of the healthy")
    return to_svg(figure)


def moves(table: pd.DataFrame) -> str:
    """Where samples of a person go from one to the next, with what chance gives in brackets.

    Parameters
    ----------
    table : DataFrame
        ``from``, ``to``, ``n``, ``share``, ``chance``.
    """
    groups = sorted({*table["from"], *table["to"]}, key=natural_key)
    values = np.zeros((len(groups), len(groups)))
    place = {one: i for i, one in enumerate(groups)}
    figure, (axes,) = _panels(1.6 + 0.95 * len(groups), 1.4 + 0.72 * len(groups), 1, 1)
    for row in table.to_dict("records"):
        values[place[row["from"]], place[row["to"]]] = row["share"]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for row in table.to_dict("records"):
        i, j = place[row["from"]], place[row["to"]]
        text = f"{100 * row['share']:.0f} %\n({100 * row['chance']:.0f} %)"
        axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if row["share"] > 0.55 else INK)
    for set_ticks, set_labels in (
        (axes.set_xticks, axes.set_xticklabels),
        (axes.set_yticks, axes.set_yticklabels),
    ):
        set_ticks(range(len(groups)))
        set_labels([plain(shorten(one, 12)) for one in groups], parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("group at the next visit")
    axes.set_ylabel("group at a visit")
    return to_svg(figure)
