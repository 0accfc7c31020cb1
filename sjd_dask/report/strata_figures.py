"""The figures of a grouping: consensus of pairs, curves over k, silhouettes, and samples on their components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sjd_dask.report.figures import DOTS_2, GRID, INK, MUTED, to_svg
from sjd_dask.report.format import natural_key, plain, shorten
from sjd_dask.report.layer_figures import COLORS, MOST_POINTS, POINT_DPI, _panels

# Share of a group's samples within its outline; cells of the map of its density; fewer samples have no outline.
OUTLINED, CELLS, FEWEST_OUTLINED = 0.8, 48, 200
# What the table of the choice measures: column, title, and which way is better.
CRITERIA = (
    ("pac", "ambiguous pairs (PAC)", "lower is better"),
    ("silhouette", "silhouette", "higher is better"),
    ("gap", "gap", "higher is better"),
    ("separation_z", "separation, SD of no groups", "higher is better"),
    ("stability", "stability", "higher is better"),
)
ALGORITHM_COLORS = {
    "hierarchical": "#0072b2", "kmeans": "#e69f00", "pam": "#009e73", "mixture": "#cc79a7",
}  # fmt: skip


def strata_colors(strata: Sequence[str]) -> dict[str, str]:
    """A colour of each group, in natural order."""
    ordered = sorted(dict.fromkeys(strata), key=natural_key)
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(ordered)}


def consensus_map(matrix: np.ndarray, strata: Sequence[str], colors: dict[str, str]) -> str:
    """Consensus of pairs, samples by group, with a strip of the groups.

    Parameters
    ----------
    matrix : ndarray of float (m, m)
        Share of the resamples that put both together.
    strata : sequence of str (m,)
        Groups, each in one run.
    colors : dict
    """
    figure, (strip, axes) = _panels(6.4, 6.5, 2, 1)
    strip.get_gridspec().set_height_ratios([1, 28])  # type: ignore[union-attr]
    drawn = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    names = list(colors)
    codes = np.array([[names.index(one) for one in strata]])
    strip.imshow(
        codes, cmap=ListedColormap([colors[name] for name in names]), vmin=-0.5, vmax=len(names) - 0.5,
        aspect="auto", interpolation="nearest",
    )  # fmt: skip
    for one in (strip, axes):
        one.set_xticks([])
        one.set_yticks([])
        one.spines[:].set_visible(False)
    starts = [i for i in range(len(strata)) if i == 0 or strata[i] != strata[i - 1]]
    ends = [*starts[1:], len(strata)]
    for start, end in zip(starts, ends, strict=True):
        if start:
            axes.axhline(start - 0.5, color="white", lw=1.0)
            axes.axvline(start - 0.5, color="white", lw=1.0)
        if (end - start) / len(strata) > 0.025:
            middle = (start + end - 1) / 2
            strip.text(middle, -0.75, plain(strata[start]), ha="center", va="bottom", fontsize=9, color=INK)
    bar = figure.colorbar(drawn, ax=[strip, axes], fraction=0.035, pad=0.015)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("consensus", color=INK, size=10)
    bar.ax.tick_params(colors=INK, labelsize=9)
    return to_svg(figure, POINT_DPI)


def cumulative(curves: pd.DataFrame, selected: int) -> str:
    """Distribution of the consensus over pairs, one line for each k.

    Parameters
    ----------
    curves : DataFrame
        ``k``, ``x``, ``y`` of one algorithm.
    selected : int
        Drawn thick.
    """
    figure, (axes,) = _panels(6.2, 3.8, 1, 1)
    axes.axvspan(0.1, 0.9, color="#f3f5f8", zorder=0)
    ks = sorted(curves["k"].unique())
    shades = np.linspace(0.25, 0.95, len(ks))
    from matplotlib import colormaps

    for k, shade in zip(ks, shades, strict=True):
        rows = curves[curves["k"] == k].sort_values("x")
        axes.plot(
            rows["x"], rows["y"], color=colormaps["viridis_r"](shade), lw=2.6 if k == selected else 1.3,
            label=f"k = {k}", zorder=3 if k == selected else 2,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("consensus of a pair")
    axes.set_ylabel("share of pairs at most")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_svg(figure)


def ambiguity(choice: pd.DataFrame, selected: int) -> str:
    """Area under the distribution, its relative gain and the share of ambiguous pairs, against k.

    Parameters
    ----------
    choice : DataFrame
        ``k``, ``area``, ``gain``, ``pac`` of one algorithm.
    selected : int
    """
    figure, (axes,) = _panels(6.2, 3.8, 1, 1)
    axes.axvline(selected, color=GRID, lw=9, zorder=0)
    for column, label, color in (
        ("area", "area", COLORS[0]),
        ("gain", "relative gain", COLORS[2]),
        ("pac", "ambiguous pairs", COLORS[4]),
    ):
        rows = choice[choice[column].notna()].sort_values("k") if column in choice else choice.iloc[:0]
        if len(rows):
            axes.plot(rows["k"], rows[column], color=color, lw=1.8, marker="o", ms=4, label=label, zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.margins(x=0.08)
    axes.set_xlabel("k")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_svg(figure)


def criteria(choice: pd.DataFrame, selected: int) -> str:
    """PAC, silhouette, separation (or gap) and stability against k, a line for each algorithm, a thick one for all.

    Parameters
    ----------
    choice : DataFrame
        ``algorithm``, ``k`` and the criteria; missing values are left out.
    selected : int
        The chosen k, marked.
    """
    shown = [one for one in CRITERIA if one[0] in choice and choice[one[0]].notna().any()]
    if any(one[0] == "separation_z" for one in shown):
        shown = [one for one in shown if one[0] != "gap"]  # it takes part in no choice then
    figure, panels = _panels(12.6, 3.4, 1, max(1, len(shown)))
    names = list(dict.fromkeys(choice["algorithm"]))
    for axes, (column, title, better) in zip(panels, shown, strict=False):
        axes.axvline(selected, color=GRID, lw=7, zorder=0)
        for name in names:
            rows = choice[(choice["algorithm"] == name) & choice[column].notna()].sort_values("k")
            color = ALGORITHM_COLORS.get(str(name), INK)
            axes.plot(
                rows["k"], rows[column], color=color, lw=1.3 if name in ALGORITHM_COLORS else 2.4, marker="o", ms=3.5,
                zorder=2 if name in ALGORITHM_COLORS else 3,
            )  # fmt: skip
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=4)
        axes.set_xlabel(f"k ({better})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.08)
    handles = [
        Line2D(
            [], [], color=ALGORITHM_COLORS.get(str(name), INK), lw=1.3 if name in ALGORITHM_COLORS else 2.4, label=name
        )
        for name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def silhouettes(strata: np.ndarray, values: np.ndarray, colors: dict[str, str]) -> str:
    """Silhouette of every sample, groups one below the other, each in falling order.

    Parameters
    ----------
    strata, values : ndarray (n,)
        NaN is left out.
    colors : dict
    """
    figure, (axes,) = _panels(6.2, 4.4, 1, 1)
    at, gap, ticks, n = 0.0, 0.02 * len(values), [], len(values)
    for name, color in colors.items():
        own = np.sort(values[(strata == name) & np.isfinite(values)])[::-1]
        if not own.size:
            continue
        thin = own[np.unique(np.linspace(0, own.size - 1, min(own.size, 600)).astype(int))]
        y = at + np.linspace(0, own.size, thin.size + 1)
        axes.stairs(thin, y, orientation="horizontal", fill=True, color=color, lw=0, zorder=2)
        ticks.append((at + own.size / 2, f"{plain(shorten(name, 12))} ({own.size:,})"))
        axes.plot([own.mean()] * 2, [at, at + own.size], color=INK, lw=1.0, ls=(0, (3, 2)), zorder=3)
        at += own.size + gap
    axes.set_yticks([one for one, _ in ticks])
    axes.set_yticklabels([text for _, text in ticks], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(at - gap, 1), -gap if n else 0)
    axes.axvline(0, color=MUTED, lw=0.8, zorder=1)
    axes.set_xlabel("silhouette (dashed: mean of the group)")
    return to_svg(figure)


def embedding(table: pd.DataFrame, colors: dict[str, str], shares: Sequence[float]) -> str:
    """Samples on the first two components of the chosen features, core samples filled.

    Parameters
    ----------
    table : DataFrame
        ``sample_id``, ``component_1``, ``component_2``, ``stratum``, ``core``.
    colors : dict
    shares : sequence of float
        Share of the variance of each component.
    """
    figure, (axes,) = _panels(6.2, 4.4, 1, 1)
    if len(table) > MOST_POINTS:
        for name, color in colors.items():
            own = table.loc[table["stratum"] == name, ["component_1", "component_2"]].to_numpy(dtype=float)
            _outline(axes, own[np.isfinite(own).all(axis=1)], color)
        # Those of smallest hash: the same ones whatever the order, and none by the place of its id.
        key = pd.util.hash_array(table["sample_id"].to_numpy(dtype=object))
        table = table.iloc[np.sort(np.argsort(key, kind="stable")[:MOST_POINTS])]
    size = float(np.clip(6000 / max(len(table), 1), 6, 24))
    order = np.random.default_rng(0).permutation(len(table))
    x, y = (table[f"component_{i}"].to_numpy(dtype=float)[order] for i in (1, 2))
    color = np.array([colors.get(one, DOTS_2) for one in table["stratum"]], dtype=object)[order]
    core = table["core"].to_numpy(dtype=bool)[order]
    axes.scatter(x[core], y[core], s=size, c=color[core], linewidths=0, rasterized=True, zorder=2)
    axes.scatter(
        x[~core], y[~core], s=size, facecolors="none", edgecolors=list(color[~core]), linewidths=0.8, rasterized=True,
        zorder=3,
    )  # fmt: skip
    for letter, i in (("x", 1), ("y", 2)):
        percent = f" ({100 * shares[i - 1]:.3g} %)" if len(shares) >= i and np.isfinite(shares[i - 1]) else ""
        getattr(axes, f"set_{letter}label")(f"component {i}{percent}")
    axes.margins(0.06)
    handles = [
        Line2D([], [], ls="", marker="o", ms=6, color=c, mew=0, label=plain(shorten(n, 16))) for n, c in colors.items()
    ]
    if (~core).any():
        handles.append(Line2D([], [], ls="", marker="o", ms=6, mfc="none", mec=INK, mew=0.8, label="not core"))
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK,
        handletextpad=0.2,
    )  # fmt: skip
    return to_svg(figure, POINT_DPI)


def _outline(axes: Axes, points: np.ndarray, color: str) -> None:
    """A line around the densest part of a group that holds `OUTLINED` of its samples."""
    if len(points) < FEWEST_OUTLINED:
        return
    density, *edges = np.histogram2d(points[:, 0], points[:, 1], bins=CELLS)
    for _ in range(2):
        for axis in (0, 1):
            # Binomial weights: a smooth bell of some cells.
            density = np.apply_along_axis(np.convolve, axis, density, np.array([1, 4, 6, 4, 1]) / 16, mode="same")
    falling = np.sort(density, axis=None)[::-1]
    level = falling[np.searchsorted(np.cumsum(falling), OUTLINED * falling.sum())]
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    axes.contour(x, y, density.T, levels=[level], colors=[color], linewidths=1.4, zorder=4)


def sizes(strata: np.ndarray, core: np.ndarray, colors: dict[str, str]) -> str:
    """Samples of each group, core ones in full colour."""
    figure, (axes,) = _panels(6.2, 1.2 + 0.42 * len(colors), 1, 1)
    for i, (name, color) in enumerate(colors.items()):
        own = strata == name
        n, n_core = int(own.sum()), int((own & core).sum())
        axes.barh(i, n, 0.62, color=color, alpha=0.35, lw=0, zorder=2)
        axes.barh(i, n_core, 0.62, color=color, lw=0, zorder=3)
        axes.text(n, i, f" {n:,}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(colors)))
    axes.set_yticklabels([plain(shorten(name, 12)) for name in colors], parse_math=False)
    axes.set_ylim(len(colors) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_xlabel("samples (full colour: core)")
    return to_svg(figure)
