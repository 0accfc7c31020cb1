"""The figures of a layer: distributions of samples, principal components, shares of variance, distances, sexes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sjd_dask.report.figures import DOTS, DOTS_2, GRID, INK, LINE, MUTED, UP, to_svg
from sjd_dask.report.format import natural_key, plain, shorten
from sjd_dask.report.thin import one_per_cell

# Told apart also with impaired colour vision (Okabe and Ito 2008), the first eight.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a6a00", "#333f4c", "#8856a7", "#a6611a")
BANDS = (("#c6d7ea", "#7ba3cf", "#1f5fa8"), ("#cfe3dc", "#7dbca6", "#0b7a5b"))
FEW_SAMPLES = 200
BINS = 300
MOST_DOTS = 500  # flagged samples with a dot of their own
MANY_BATCHES = 40  # no colours of their own above
MOST_POINTS = 2500
POINT_DPI = 110
STAGES = ("before", "after")


def _panels(width: float, height: float, rows: int, columns: int, *, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(colors=INK, labelsize=9, length=3)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=INK, size=10)
        axes.set_axisbelow(True)
    return figure, panels


def distributions(table: pd.DataFrame, labels: dict[str, str]) -> str:
    """Five-number summaries of every sample before and after, samples in the order of `table`, batches told apart.

    Parameters
    ----------
    table : DataFrame
        ``{minimum,q1,median,q3,maximum}_{before,after}``, and ``batch`` (text) or no such column; rows of a batch lie
        together. ``is_flagged`` marks samples drawn in red.
    labels : dict
        Vertical axis of each stage.

    Notes
    -----
    Above `FEW_SAMPLES` samples neighbours of a batch share a bin that shows their typical (median) summary; flagged
    samples keep their own dots.
    """
    n = len(table)
    codes, batches = pd.factorize(table["batch"].fillna("none")) if "batch" in table else (np.zeros(n, int), [""])
    figure, panels = _panels(12.6, 5.4, 2, 1, sharex=True)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    shades = codes % 2 if len(batches) <= MANY_BATCHES else np.zeros(n, dtype=int)
    flagged = np.flatnonzero(table["is_flagged"].to_numpy(dtype=bool))
    if flagged.size > MOST_DOTS:
        far = table["distance_to_reference"].fillna(0) if "distance_to_reference" in table else table["n_flags"]
        flagged = np.sort(flagged[np.argsort(-far.to_numpy(dtype=float)[flagged], kind="stable")[:MOST_DOTS]])
    for axes, stage in zip(panels, STAGES, strict=True):
        five = [table[f"{name}_{stage}"].to_numpy(dtype=float) for name in ("minimum", "q1", "median", "q3", "maximum")]
        if n <= FEW_SAMPLES:
            _boxes(axes, five, shades)
        else:
            _ribbons(axes, five, shades, starts if len(batches) <= MANY_BATCHES else starts[:1])
        size = 14 if n <= FEW_SAMPLES else 8
        axes.scatter(flagged, five[2][flagged], s=size, color=UP, linewidths=0, zorder=4, rasterized=True)
        for start in starts[1:] if len(starts) <= MANY_BATCHES else ():
            axes.axvline(start - 0.5, color=GRID, lw=0.8, zorder=0)
        axes.set_xlim(-0.5, n - 0.5)
        axes.set_ylabel(labels[stage], parse_math=False)
        axes.set_title(stage, loc="left", fontsize=10.5, color=INK, pad=4)
    _batch_ticks(panels[1], starts, n, [str(one) for one in batches])
    return to_svg(figure)


def _boxes(axes: Axes, five: list[np.ndarray], shades: np.ndarray) -> None:
    at = np.arange(len(shades))
    width = float(np.clip(600 / max(len(shades), 1), 2.0, 9.0))
    for parity in (0, 1):
        own = shades == parity
        light, middle, dark = BANDS[parity]
        low, q1, median, q3, high = (one[own] for one in five)
        axes.vlines(at[own], low, high, color=light, lw=max(width / 4, 0.8), zorder=1)
        axes.vlines(at[own], q1, q3, color=middle, lw=width, zorder=2)
        axes.scatter(at[own], median, s=width * 2.2, color=dark, linewidths=0, zorder=3)


def _ribbons(axes: Axes, five: list[np.ndarray], shades: np.ndarray, starts: np.ndarray) -> None:
    ends = np.append(starts[1:], len(shades))
    for start, end in zip(starts, ends, strict=True):
        n_bins = int(np.clip(round(BINS * (end - start) / len(shades)), 1, end - start))
        parts = np.array_split(np.arange(start, end), n_bins)
        x = np.array([start - 0.5, *(part.mean() for part in parts), end - 0.5])
        low, q1, median, q3, high = (_typical(one, parts) for one in five)
        light, middle, dark = BANDS[shades[start]]
        axes.fill_between(x, low, high, color=light, lw=0, zorder=1)
        axes.fill_between(x, q1, q3, color=middle, lw=0, zorder=2)
        axes.plot(x, median, color=dark, lw=1.2, zorder=3)


def _typical(values: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Median of each part, the ends repeated so that a ribbon fills its batch; NaN where a part has no value."""
    found = []
    for part in parts:
        known = values[part][np.isfinite(values[part])]
        found.append(float(np.median(known)) if known.size else np.nan)
    return np.array([found[0], *found, found[-1]])


def _batch_ticks(axes: Axes, starts: np.ndarray, n: int, batches: list[str]) -> None:
    if len(batches) < 2:
        axes.set_xlabel(f"{n:,} samples in the order of the layer")
        axes.set_xticks([])
        return
    middles = (starts + np.append(starts[1:], n) - 1) / 2
    ticks, texts, free = [], [], -np.inf
    for middle, name in zip(middles, batches, strict=True):
        text = plain(shorten(name, 14))
        half = n * (0.004 + 0.0042 * len(text))
        if middle - half >= free:
            ticks.append(middle)
            texts.append(text)
            free = middle + half
    axes.set_xticks(ticks)
    axes.set_xticklabels(texts, parse_math=False)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(f"{n:,} samples by batch ({len(batches):,})")


def components(table: pd.DataFrame, factor: str, shares: dict[tuple[str, int], float]) -> str:
    """First two components before and after, side by side, coloured by a factor.

    Parameters
    ----------
    table : DataFrame
        ``before_1``, ``before_2``, ``after_1``, ``after_2``, the factor (text: groups; numbers: a covariate) or no such
        column, and ``is_flagged``.
    factor : str
    shares : dict
        Share of the variance by (stage, component).
    """
    figure, panels = _panels(12.6, 4.9, 1, 2)
    if len(table) > MOST_POINTS:
        table = table.iloc[np.arange(MOST_POINTS) * len(table) // MOST_POINTS]
    column = table[factor] if factor in table else pd.Series(["all samples"] * len(table), dtype=object)
    is_covariate = pd.api.types.is_numeric_dtype(column)
    groups = [] if is_covariate else sorted(column.dropna().unique(), key=natural_key)
    is_ramp = len(groups) > len(COLORS)  # more groups than colours: one colour after the other along their order
    if is_ramp:
        column = column.map({name: float(i) for i, name in enumerate(groups)})
        is_covariate = True
    # Later dots hide earlier ones: a fixed shuffle keeps the last batch from hiding the rest.
    order = np.random.default_rng(0).permutation(len(table))
    size = float(np.clip(6000 / max(len(table), 1), 5, 22))
    handles: list[Line2D] = []
    colors: np.ndarray
    if is_covariate:
        colors = column.to_numpy(dtype=float, na_value=np.nan)
    else:
        colors, handles = _group_colors(column, groups)
    flagged = table["is_flagged"].to_numpy(dtype=bool)
    for axes, stage in zip(panels, STAGES, strict=True):
        x, y = (_inside(table[f"{stage}_{i}"].to_numpy(dtype=float), flagged) for i in (1, 2))
        drawn = axes.scatter(
            x[order], y[order], s=size, c=colors[order], linewidths=0, rasterized=True, zorder=2,
            cmap="viridis" if is_covariate else None, plotnonfinite=is_covariate,
        )  # fmt: skip
        axes.scatter(x[flagged], y[flagged], s=size + 22, facecolors="none", edgecolors=INK, linewidths=0.7, zorder=3)
        for letter, i in (("x", 1), ("y", 2)):
            share = shares.get((stage, i), np.nan)
            percent = f" ({100 * share:.3g} %)" if np.isfinite(share) else ""
            getattr(axes, f"set_{letter}label")(f"component {i}{percent}")
        axes.margins(0.06)
        axes.set_title(stage, loc="left", fontsize=10.5, color=INK, pad=4)
    if flagged.any() and not is_covariate:
        ring = Line2D([], [], ls="", marker="o", ms=6.5, mfc="none", mec=INK, mew=0.7, label="flagged")
        handles = [*handles, ring]
    if is_covariate:
        bar = figure.colorbar(drawn, ax=panels, fraction=0.03, pad=0.01)
        bar.outline.set_visible(False)
        name = plain(shorten(factor, 40))
        bar.set_label(f"{name}: {len(groups)} groups in order" if is_ramp else name, color=INK, size=10)
        if is_ramp:
            bar.set_ticks([])
        bar.ax.tick_params(colors=INK, labelsize=9)
    if handles:
        title = plain(shorten(factor, 28))
        legend = figure.legend(
            handles=handles, loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK, title=title,
            handletextpad=0.2, borderaxespad=0.2,
        )  # fmt: skip
        legend.get_title().set(color=INK, size=9.5, parse_math=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return to_svg(figure, POINT_DPI)


def _inside(values: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """Values moved to the edge of a frame around the samples that are not flagged: one failed array would fill it."""
    good = values[~flagged & np.isfinite(values)]
    if good.size < 3:
        return values
    low, high = float(good.min()), float(good.max())
    room = 0.25 * (high - low)
    clipped: np.ndarray = np.clip(values, low - room, high + room)
    return clipped


def _group_colors(column: pd.Series, groups: list[object]) -> tuple[np.ndarray, list[Line2D]]:
    """Colour of each sample, and the legend."""
    chosen = dict(zip(groups, COLORS, strict=False))
    colors = np.array([chosen.get(value, DOTS_2) for value in column], dtype=object)
    entries = [(plain(shorten(str(name), 22)), color) for name, color in chosen.items()]
    if column.isna().any():
        entries.append(("unknown", DOTS_2))
    return colors, [Line2D([], [], ls="", marker="o", ms=6, color=color, mew=0, label=name) for name, color in entries]


def shares(table: pd.DataFrame) -> str:
    """Share of the variance that each factor explains before and after, with what a meaningless one would.

    Parameters
    ----------
    table : DataFrame
        ``factor``, ``stage``, ``share``, ``chance``; factors in the order wanted.
    """
    factors = list(dict.fromkeys(table["factor"]))
    rows = table.set_index(["factor", "stage"])
    figure, (axes,) = _panels(6.2, 1.15 + 0.62 * len(factors), 1, 1)
    for i, name in enumerate(factors):
        for shift, stage, color in ((-0.19, "before", DOTS_2), (0.19, "after", LINE)):
            if (name, stage) not in rows.index:
                continue
            share, chance = 100 * rows.loc[(name, stage), "share"], 100 * rows.loc[(name, stage), "chance"]
            axes.barh(i + shift, share, 0.34, color=color, zorder=2)
            axes.text(share, i + shift, f" {share:.1f}", va="center", fontsize=9, color=INK)
            axes.plot([chance, chance], [i + shift - 0.17, i + shift + 0.17], color=INK, lw=1.2, zorder=3)
    axes.set_yticks(range(len(factors)))
    axes.set_yticklabels([plain(shorten(str(name), 24)) for name in factors], parse_math=False)
    axes.set_ylim(len(factors) - 0.5, -0.5)
    axes.set_xlim(0, max(float(100 * np.nanmax(table[["share", "chance"]])) * 1.14, 1.0))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("variance explained, % (mean over features)")
    handles = [Line2D([], [], color=color, lw=7, label=stage) for stage, color in (("before", DOTS_2), ("after", LINE))]
    chance_line = Line2D([], [], ls="", marker="|", ms=10, mew=1.2, color=INK, label="by chance")
    axes.legend(
        handles=[*handles, chance_line], loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, frameon=False,
        fontsize=9, labelcolor=INK, handlelength=1.2,
    )  # fmt: skip
    return to_svg(figure)


def scree(table: pd.DataFrame) -> str:
    """Share of the variance of each component before and after.

    Parameters
    ----------
    table : DataFrame
        ``stage``, ``component``, ``share``.
    """
    figure, (axes,) = _panels(6.2, 3.6, 1, 1)
    for shift, stage, color in ((-0.19, "before", DOTS_2), (0.19, "after", LINE)):
        rows = table[(table["stage"] == stage) & table["share"].notna()]
        bars = axes.bar(rows["component"] + shift, 100 * rows["share"], 0.34, color=color, label=stage, zorder=2)
        axes.bar_label(bars, fmt="%.1f", fontsize=9, color=INK, padding=1.5)
    axes.set_xticks(sorted(set(table["component"])))
    axes.margins(y=0.12)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("component")
    axes.set_ylabel("variance, %")
    axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.2)
    return to_svg(figure)


def distances(distance: np.ndarray, is_outlier: np.ndarray, is_reference: np.ndarray) -> str:
    """Histogram of the distances to the reference, of reference and other samples, with those outside the fence.

    Parameters
    ----------
    distance : ndarray of float (n,)
        NaN is left out; those far beyond the rest are counted in the last bin.
    is_outlier, is_reference : ndarray of bool (n,)
    """
    known = np.isfinite(distance)
    values, outside, reference = distance[known], is_outlier[known], is_reference[known]
    end = float(np.quantile(values, 0.995)) * 1.3
    end = min(end, float(values.max())) if values.max() > values.min() else float(values.max()) + 1
    edges = np.linspace(float(values.min()), end, 45)
    clipped = np.minimum(values, end)
    figure, (axes,) = _panels(6.2, 3.6, 1, 1)
    groups = [
        ("reference", reference & ~outside, DOTS_2),
        ("other", ~reference & ~outside, "#7ba3cf"),
        ("outside the fence", outside, UP),
    ]
    groups = [group for group in groups if group[1].any()]
    axes.hist(
        [clipped[chosen] for _, chosen, _ in groups], bins=edges.tolist(), stacked=True, rwidth=0.96,
        color=[color for _, _, color in groups], label=[f"{name} ({chosen.sum():,})" for name, chosen, _ in groups],
    )  # fmt: skip
    _whole_numbers(axes)
    axes.set_xlabel("distance to the reference profile" + (" (last bar: and beyond)" if values.max() > end else ""))
    axes.set_ylabel("samples")
    _legend_above(axes)
    return to_svg(figure)


def _whole_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8.5, labelcolor=INK,
        handlelength=1.1, handletextpad=0.4, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip


def sexes(x: np.ndarray, y: np.ndarray, predicted: np.ndarray, mismatch: np.ndarray) -> str:
    """Medians on X against those on Y, or a histogram where only one is there; mismatches are ringed.

    Parameters
    ----------
    x, y : ndarray of float (n,)
        All NaN where there are no such features.
    predicted : ndarray of object (n,)
        "female", "male" or None.
    mismatch : ndarray of bool (n,)
    """
    figure, (axes,) = _panels(6.2, 3.6, 1, 1)
    groups = (("female", COLORS[3]), ("male", COLORS[0]), (None, DOTS))
    has_x, has_y = np.isfinite(x).any(), np.isfinite(y).any()
    if has_x and has_y:
        for name, color in groups:
            own = np.flatnonzero((predicted == name) & np.isfinite(x) & np.isfinite(y))
            total = own.size
            if total:
                own = own[one_per_cell(x[own], y[own], 250, 160)]
                axes.scatter(
                    x[own], y[own], s=12, color=color, linewidths=0, alpha=0.8, rasterized=True,
                    label=f"{name or 'not told'} ({total:,})",
                )  # fmt: skip
        axes.set_xlabel("median of features on X")
        axes.set_ylabel("median of features on Y")
        if mismatch.any():
            axes.scatter(
                x[mismatch], y[mismatch], s=46, facecolors="none", edgecolors=UP, linewidths=1.1, zorder=4,
                label=f"recorded otherwise ({mismatch.sum():,})",
            )  # fmt: skip
    else:
        values, letter = (x, "X") if has_x else (y, "Y")
        edges = np.linspace(np.nanmin(values), np.nanmax(values), 46)
        if not edges[-1] > edges[0]:
            edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, 46)
        chosen = [(name, color, (predicted == name) & np.isfinite(values)) for name, color in groups]
        chosen = [one for one in chosen if one[2].any()]
        axes.hist(
            [values[own] for _, _, own in chosen], bins=edges.tolist(), stacked=True, rwidth=0.96,
            color=[color for _, color, _ in chosen],
            label=[f"{name or 'not told'} ({own.sum():,})" for name, _, own in chosen],
        )  # fmt: skip
        if mismatch.any():
            axes.scatter(
                values[mismatch], np.zeros(int(mismatch.sum())), s=30, marker="^", color=UP, linewidths=0, zorder=4,
                clip_on=False, label=f"recorded otherwise ({mismatch.sum():,})",
            )  # fmt: skip
        axes.set_xlabel(f"median of features on {letter}")
        axes.set_ylabel("samples")
        _whole_numbers(axes)
    _legend_above(axes)
    return to_svg(figure)
