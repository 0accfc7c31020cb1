"""The figures of an association result, as SVG text. Points are pixels inside the SVG; lines and letters stay sharp."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from typing import Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sjd_dask.report.summary import minus_log10, natural_order, short_chromosome, significance_line
from sjd_dask.report.thin import log_spaced, thin

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ec"
DOTS, DOTS_2 = "#8a97a6", "#b7c0ca"
UP, DOWN, LINE = "#b3261e", "#1f5fa8", "#1f5fa8"
DPI = 180
_style_lock = threading.Lock()  # matplotlib's settings are global


class Labels(Protocol):
    """Names by place, asked for one at a time."""

    def __getitem__(self, place: int, /) -> str: ...


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.xaxis.label.set(color=INK, size=10)
    axes.yaxis.label.set(color=INK, size=10)
    axes.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Figure, dpi: int = DPI) -> str:
    """SVG text without date, the same for the same figure; points are pixels of this density."""
    out = io.StringIO()
    with _style_lock, mpl.rc_context({"svg.hashsalt": "sjd", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _dots(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, size: float = 7, order: float = 2) -> None:
    axes.scatter(x, y, s=size, color=color, linewidths=0, rasterized=True, zorder=order)


def _significance(axes: Axes, p: np.ndarray, q: np.ndarray) -> None:
    line = significance_line(p, q)
    if line is not None:
        axes.axhline(line, color=MUTED, lw=0.8, ls=(0, (4, 3)), zorder=1)


def _label_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]], limit: int) -> None:
    """Names above their points, best first; a name that would touch another one or leave the axes is left out."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    taken: list[mpl.transforms.Bbox] = []
    for x, y, text in points:
        if len(taken) == limit:
            return
        for dx, dy, ha in ((0, 4, "center"), (5, -3, "left"), (-5, -3, "right")):
            note = axes.annotate(
                text, (x, y), (dx, dy), textcoords="offset points", ha=ha, fontsize=7.5, color=INK, zorder=5,
                parse_math=False,
            )  # fmt: skip
            note.set_in_layout(False)
            box = note.get_window_extent(figure.canvas.get_renderer()).padded(1)  # type: ignore[attr-defined]
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 + 8
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def volcano(effect: np.ndarray, p: np.ndarray, q: np.ndarray, labels: Labels, *, effect_label: str) -> tuple[str, int]:
    """Effect against -log10 p, features with q < 0.05 in colour.

    Parameters
    ----------
    effect, p, q : ndarray of float (n,)
        Finite effect and p; q may be NaN.
    labels : anything that gives a str by place
        Names for the first few.
    effect_label : str
        Name and unit of the horizontal axis.

    Returns
    -------
    str, int
        SVG text and the number of points drawn.
    """
    height, significant = minus_log10(p), q < 0.05
    drawn = thin(effect, height, significant, 320, 240)
    figure, axes = _axes(4.4, 3.9)
    axes.axvline(0, color=GRID, lw=1, zorder=0)
    for chosen, color, order in (
        (drawn[~significant[drawn]], DOTS, 2.0),
        (drawn[significant[drawn] & (effect[drawn] < 0)], DOWN, 3.0),
        (drawn[significant[drawn] & (effect[drawn] >= 0)], UP, 3.0),
    ):
        _dots(axes, effect[chosen], height[chosen], color, order=order)
    _significance(axes, p, q)
    reach = float(np.abs(effect).max()) * 1.08 or 1.0
    top = max(float(height.max()) * 1.08, 1.0)
    axes.set(xlim=(-reach, reach), ylim=(0, top))
    axes.set_xlabel(effect_label, parse_math=False)
    axes.set_ylabel("−log₁₀ p")
    best = [i for i in np.argsort(p, kind="stable")[:40] if significant[i]]
    _label_points(figure, axes, [(effect[i], height[i], labels[i]) for i in best], 8)
    return to_svg(figure), len(drawn)


def quantiles(p: np.ndarray) -> tuple[str, int]:
    """Observed against expected -log10 p, with the pointwise 95 % band of independent uniform p-values."""
    from scipy.special import betaincinv

    ordered = np.sort(p)
    n = ordered.size
    ranks = log_spaced(n)
    i = ranks + 1.0
    expected = -np.log10(i / (n + 1))
    low, high = (-np.log10(betaincinv(i, n - i + 1, share)) for share in (0.975, 0.025))
    observed = minus_log10(ordered[ranks])
    figure, axes = _axes(4.4, 3.9)
    axes.fill_between(expected, low, high, color=DOTS_2, alpha=0.55, lw=0, label="95 % band", zorder=1)
    end = float(expected.max()) * 1.03
    axes.plot([0, end], [0, end], color=MUTED, lw=1, zorder=2, label="expected")
    axes.scatter(expected, observed, s=8, color=LINE, linewidths=0, rasterized=True, zorder=3, label="observed")
    axes.set(xlim=(0, end), ylim=(0, max(float(observed.max()), end) * 1.05))
    axes.set_xlabel("expected −log₁₀ p")
    axes.set_ylabel("observed −log₁₀ p")
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.4)
    return to_svg(figure), len(ranks)


def histogram(p: np.ndarray) -> str:
    """Histogram of p-values, with the height that no effect anywhere would give."""
    bins = 50 if p.size >= 5000 else 20
    figure, axes = _axes(4.4, 3.9)
    heights, _, _ = axes.hist(p, bins=bins, range=(0, 1), color=DOTS_2, edgecolor="white", linewidth=0.4)
    axes.axhline(p.size / bins, color=MUTED, lw=1, ls=(0, (4, 3)), label="no effect anywhere")
    axes.set(xlim=(0, 1), ylim=(0, max(float(np.max(heights)), p.size / bins) * 1.18))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("p")
    axes.set_ylabel("features")
    axes.legend(loc="upper right", frameon=False, fontsize=8.5, labelcolor=INK)
    return to_svg(figure)


def manhattan(
    chromosome: np.ndarray, position: np.ndarray, p: np.ndarray, q: np.ndarray, labels: Labels
) -> tuple[str, int]:
    """-log10 p along the genome, chromosomes in natural order.

    Parameters
    ----------
    chromosome : ndarray of str (n,)
    position : ndarray of float (n,)
        Base pairs, finite.
    p, q : ndarray of float (n,)
        Finite p; q may be NaN.
    labels : anything that gives a str by place

    Returns
    -------
    str, int
        SVG text and the number of points drawn.
    """
    found, codes = np.unique(chromosome, return_inverse=True)
    ordered = natural_order([str(c) for c in found])
    rank = np.array([ordered.index(str(c)) for c in found])[codes]
    length = np.zeros(len(ordered))
    np.maximum.at(length, rank, position)
    gap = max(length.sum() * 0.004, 1.0)
    start = np.concatenate([[0.0], np.cumsum(length + gap)[:-1]])
    x, height, significant = start[rank] + position, minus_log10(p), q < 0.05
    drawn = thin(x, height, significant, 1600, 300)
    figure, axes = _axes(12.6, 3.4)
    for parity, color in ((0, DOTS), (1, DOTS_2)):
        chosen = drawn[(rank[drawn] % 2 == parity) & ~significant[drawn]]
        _dots(axes, x[chosen], height[chosen], color, 6)
    chosen = drawn[significant[drawn]]
    _dots(axes, x[chosen], height[chosen], UP, 11, 3.0)
    _significance(axes, p, q)
    axes.set(xlim=(-gap * 2, start[-1] + length[-1] + gap * 2), ylim=(0, max(float(height.max()) * 1.12, 1.0)))
    # A name for each chromosome that has room for one.
    ticks, texts, last = [], [], -np.inf
    for begin, size, name in zip(start, length, ordered, strict=True):
        middle, text = begin + size / 2, short_chromosome(name)
        if middle - last > start[-1] * (0.005 + 0.006 * len(text)) or last < 0:
            ticks.append(middle)
            texts.append(text)
            last = middle
    axes.set_xticks(ticks)
    axes.set_xticklabels(texts, parse_math=False)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("chromosome")
    axes.set_ylabel("−log₁₀ p")
    best = [i for i in np.argsort(p, kind="stable")[:80] if significant[i]]
    _label_points(figure, axes, [(x[i], height[i], labels[i]) for i in best], 14)
    return to_svg(figure), len(drawn)
