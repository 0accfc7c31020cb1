"""The figures of a model: metrics and coverage with intervals, reliability, confusion, panel, groups of persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sjd_dask.report.figures import GRID, INK, MUTED, to_svg
from sjd_dask.report.format import natural_key, number, plain, shorten
from sjd_dask.report.layer_figures import COLORS, _panels

Records = Sequence[Mapping[str, Any]]
MOST_FEATURES = 40


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """A colour of each class, in natural order of the names."""
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(sorted(classes, key=natural_key))}


def intervals(rows: Sequence[tuple[str, Mapping[str, Any], str]], label: str, line: float | None = None) -> str:
    """Values with their intervals, one row each.

    Parameters
    ----------
    rows : sequence of (name, record, colour)
        Records with ``value``, ``low``, ``high``, of which the last two may be missing.
    label : str
        Of the axis.
    line : float, optional
        A value to compare with.
    """
    figure, (axes,) = _panels(6.2, 0.9 + 0.32 * len(rows), 1, 1)
    seen: list[float] = [] if line is None else [line]
    for i, (_, record, color) in enumerate(rows):
        value, low, high = (record.get(name) for name in ("value", "low", "high"))
        if value is None:
            axes.text(
                0.02, i, "too few persons", transform=axes.get_yaxis_transform(), va="center", size=8.5, color=MUTED
            )
            continue
        seen.append(value)
        if low is not None and high is not None:
            axes.plot([low, high], [i, i], color=color, lw=2.2, solid_capstyle="round", alpha=0.55, zorder=2)
            seen += [low, high]
        axes.scatter(value, i, s=42, color=color, linewidths=0, zorder=3)
    if line is not None:
        axes.axvline(line, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.set_yticks(range(len(rows)), [plain(shorten(name, 30)) for name, _, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    low_end, high_end = (min(seen), max(seen)) if seen else (0.0, 1.0)
    margin = max(0.02, 0.06 * (high_end - low_end))
    axes.set_xlim(max(-0.01, low_end - margin), min(1.01, high_end + margin))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    return to_svg(figure)


def reliability(records: Records, colors: Mapping[str, str]) -> str:
    """Share of persons of a class against the probability that was said, with 95 % intervals.

    Parameters
    ----------
    records : sequence of mapping
        ``class``, ``mean_probability``, ``observed``, ``observed_low``, ``observed_high``, ``n_persons``; rows without
        numbers are left out.
    colors : mapping
    """
    figure, (axes,) = _panels(6.2, 5.4, 1, 1)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    # Of two classes one says it all: the other is its mirror image.
    shown = list(colors)[1:] if len(colors) == 2 else list(colors)
    for k, name in enumerate(shown):
        rows = [one for one in records if one["class"] == name and one["mean_probability"] is not None]
        if not rows:
            continue
        x = np.array([one["mean_probability"] for one in rows]) + 0.004 * (k - (len(shown) - 1) / 2)
        y = np.array([one["observed"] for one in rows])
        low, high = (np.array([one[key] for one in rows]) for key in ("observed_low", "observed_high"))
        sizes = 14 + 5 * np.sqrt([one["n_persons"] for one in rows])
        axes.vlines(x, low, high, color=colors[name], lw=1.4, alpha=0.6, zorder=2)
        axes.plot(x, y, color=colors[name], lw=1.2, zorder=3)
        axes.scatter(x, y, s=sizes, color=colors[name], linewidths=0, zorder=4, label=plain(shorten(name, 20)))
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.grid(color=GRID, lw=0.8)
    axes.set_xlabel("probability that was said")
    axes.set_ylabel("share of persons of the class")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    return to_svg(figure)


def confusion(records: Records, classes: Sequence[str]) -> str:
    """Share of each class's persons (rows) by the class of largest probability (columns).

    Parameters
    ----------
    records : sequence of mapping
        ``class``, ``top_class``, ``share`` (None: not shown).
    classes : sequence of str
    """
    k = len(classes)
    place = {name: i for i, name in enumerate(classes)}
    shares = np.full((k, k), np.nan)
    for one in records:
        if one["share"] is not None:
            shares[place[one["class"]], place[one["top_class"]]] = one["share"]
    figure, (axes,) = _panels(6.2, float(np.clip(0.7 * k + 1.4, 2.8, 6.2)), 1, 1)
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for i in range(k):
        for j in range(k):
            share = shares[i, j]
            text = "*" if np.isnan(share) else f"{100 * share:.0f}"
            axes.text(j, i, text, ha="center", va="center", size=11, color="white" if share > 0.55 else INK)
    names = [plain(shorten(name, 16)) for name in classes]
    axes.set_xticks(range(k), names, parse_math=False, rotation=0 if k <= 4 else 35, ha="center" if k <= 4 else "right")
    axes.set_yticks(range(k), names, parse_math=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("class of largest probability")
    axes.set_ylabel("true class")
    return to_svg(figure)


def panel(records: Records, classes: Sequence[str], labels: Mapping[str, str]) -> str:
    """Weights of the features that weigh most, one column a class.

    Parameters
    ----------
    records : sequence of mapping
        ``feature_id`` and ``weight_<class>``.
    classes : sequence of str
    labels : mapping
        What a feature is called, where not by its id.
    """
    weights = np.array([[one.get(f"weight_{name}") or 0.0 for name in classes] for one in records])
    order = np.argsort(-np.abs(weights).max(axis=1), kind="stable")[:MOST_FEATURES]
    shown = weights[order]
    # By the class that a feature speaks for, so that its columns read as blocks.
    group = np.lexsort((-np.abs(shown).max(axis=1), np.abs(shown).argmax(axis=1)))
    shown, order = shown[group], order[group]
    figure, (axes,) = _panels(6.2, 1.3 + 0.235 * len(shown), 1, 1)
    limit = float(np.abs(shown).max()) or 1.0
    drawn = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    ids = [str(records[i]["feature_id"]) for i in order]
    texts = [plain(shorten(f"{labels[one]} ({one})" if labels.get(one) else one, 34)) for one in ids]
    axes.set_yticks(range(len(ids)), texts, parse_math=False)
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_xticks(range(len(classes)), [plain(shorten(one, 16)) for one in classes], parse_math=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.03)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("weight", color=INK, size=10)
    bar.ax.tick_params(colors=INK, labelsize=9)
    return to_svg(figure)


def subgroups(records: Records, metric: str, label: str, line: float | None) -> str:
    """One metric for the levels of every column, with intervals."""
    rows = [one for one in records if one["metric"] == metric]
    figure_rows = []
    columns = list(dict.fromkeys(one["column"] for one in rows))
    for one in rows:
        n = "" if one["n_persons"] is None else f" ({number(one['n_persons'])})"
        name = f"{shorten(str(one['column']), 14)}: {shorten(str(one['level']), 12)}{n}"
        figure_rows.append((name, one, COLORS[columns.index(one["column"]) % len(COLORS)]))
    return intervals(figure_rows, label, line)
