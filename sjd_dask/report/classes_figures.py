"""The figures of a classification: how sure the calls are, and how far samples lie from those of the training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from sjd_dask import names
from sjd_dask.report.figures import DOTS, INK, MUTED, UP, to_svg
from sjd_dask.report.layer_figures import _panels
from sjd_dask.report.night_figures import STATUS_COLORS

# Bars, and samples for each of them.
MOST_BINS, BIN_SAMPLES = 30, 12
# Statuses that have probabilities, as they are stacked.
STACKED = (names.CALLED, names.ABSTAINED, names.OUT_OF_DISTRIBUTION)


def n_bins(n: int) -> int:
    """Bars of a histogram of so many samples."""
    return int(np.clip(n // BIN_SAMPLES, 5, MOST_BINS))


def confidences(frame: pd.DataFrame, below: int) -> str:
    """Histogram of the largest probability, by status.

    Parameters
    ----------
    frame : DataFrame
        ``status`` and ``confidence``.
    below : int
        A bar of fewer samples is left out.
    """
    figure, (axes,) = _panels(6.2, 3.6, 1, 1)
    low = min(0.5, float(np.floor(frame["confidence"].min() * 10) / 10))
    edges = np.linspace(low, 1, n_bins(len(frame)) + 1)
    left = np.zeros(len(edges) - 1)
    handles = []
    for status in STACKED:
        heights, _ = np.histogram(frame.loc[frame["status"] == status, "confidence"], edges)
        heights = np.where(heights < below, 0, heights)
        axes.bar(edges[:-1], heights, np.diff(edges), bottom=left, align="edge", color=STATUS_COLORS[status], lw=0)
        left += heights
        if (frame["status"] == status).any():
            label = status.replace("_", " ")
            handles.append(Line2D([], [], ls="", marker="s", ms=8, mew=0, color=STATUS_COLORS[status], label=label))
    axes.set_xlim(low, 1)
    axes.set_xlabel("probability of the most probable class")
    axes.set_ylabel("samples")
    axes.legend(handles=handles, frameon=False, fontsize=9, labelcolor=INK, loc="upper left", handletextpad=0.2)
    return to_svg(figure)


def distances(scores: np.ndarray, threshold: float | None, below: int) -> str:
    """Histogram of the out-of-distribution score, with its threshold.

    Parameters
    ----------
    scores : ndarray of float (n,)
    threshold : float or None
    below : int
        A bar of fewer samples is left out.
    """
    figure, (axes,) = _panels(6.2, 3.6, 1, 1)
    # The farthest few would squeeze all others into one bar.
    low, high = np.quantile(scores, [0.002, 0.998])
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold + 0.1 * abs(threshold - low))
    edges = np.linspace(low, high if high > low else low + 1, n_bins(len(scores)) + 1)
    heights, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    heights = np.where(heights < below, 0, heights)
    color = [UP if threshold is not None and edge >= threshold else DOTS for edge in edges[:-1]]
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=color, lw=0)
    if threshold is not None:
        axes.axvline(threshold, color=MUTED, lw=1.0, ls=(0, (4, 3)))
        axes.annotate(
            "threshold", (threshold, 1.0), (-4, -4), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right", va="top", fontsize=9, color=INK,
        )  # fmt: skip
    axes.set_xlabel("distance from the samples of the training")
    axes.set_ylabel("samples")
    return to_svg(figure)
