"""The part of a grouping's page that says which assay supports which group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.report.format import count, natural_key, number, plain, shorten
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.page import Picture, picture_uri


def assays_section(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """What the template `assays_section.html.j2` shows; None for a grouping of one assay.

    Parameters
    ----------
    tables : mapping of DataFrame
        ``assays`` (one row an assay) and ``assay_support`` (one row an assay and group).
    """
    assays, support = tables.get("assays"), tables.get("assay_support")
    if assays is None or assays.empty:
        return None
    shown = support is not None and not support.empty
    return {
        "assays": _assays(assays),
        "support": _support(support) if support is not None and shown else None,
        "picture": _picture(support) if support is not None and shown else None,
        "words": _words(support) if support is not None and shown else [],
    }


def _assays(assays: pd.DataFrame) -> Rows:
    rows = [
        [
            shorten(str(r["assay"]), 40),
            count(r["n_samples"]),
            count(r["n_features"]),
            number(r["p_value"], 3),
            count(r["own_k"]),
            str(r["algorithms"]) or "none: it took no part",
            number(r["separation_z"], 3),
            number(r["own_ari"], 3),
            number(r["ari_without"], 3),
        ]
        for r in assays.to_dict("records")
    ]
    titles = (
        ("samples", True),
        ("features", True),
        ("p of no groups", True),
        ("k alone", True),
        ("algorithms that took part", False),
        ("separation", True),
        ("agreement alone", True),
        ("agreement without it", True),
    )
    return Rows([("assay", False), *titles], rows, len(rows))


def _support(support: pd.DataFrame) -> Rows:
    rows = [
        [
            shorten(str(r["assay"]), 40),
            str(r["stratum"]),
            count(r["n_samples"]),
            number(r["silhouette"], 3),
            number(100 * r["positive"], 3),
            number(r["consensus"], 3),
            number(r["consensus_other"], 3),
            number(r["jaccard"], 3),
            number(r["held_out_silhouette"], 3),
            number(r["p_value"], 3),
            "yes" if r["supports"] else "",
        ]
        for r in support.to_dict("records")
    ]
    titles = (
        "samples",
        "silhouette",
        "nearest to their own, %",
        "consensus",
        "with the next group",
        "Jaccard with its own",
        "held-out silhouette",
        "p",
    )
    columns = [("assay", False), ("group", False), *((title, True) for title in titles), ("supports it", False)]
    return Rows(columns, rows, len(rows))


def _words(support: pd.DataFrame) -> list[str]:
    """A sentence for each group."""
    made = []
    for name in sorted(support["stratum"].unique(), key=natural_key):
        own = support[support["stratum"] == name]
        for_it = [shorten(str(one), 40) for one in own.loc[own["supports"].astype(bool), "assay"]]
        against = [shorten(str(one), 40) for one in own.loc[~own["supports"].astype(bool), "assay"]]
        text = f"{name} is supported by {', '.join(for_it) or 'no assay alone'}"
        made.append(text + (f", not by {', '.join(against)}." if for_it and against else "."))
    return made


def _picture(support: pd.DataFrame) -> Picture:
    assays = list(dict.fromkeys(support["assay"]))
    strata = sorted(support["stratum"].unique(), key=natural_key)
    return Picture(
        "half",
        picture_uri(support_map(support, assays, strata)),
        f"Silhouette of {len(strata)} groups within each of {len(assays)} assays.",
        "Mean silhouette of each group within each assay; a frame marks the assays that support the group: their "
        "resamples put its samples rather with each other than with any other group, and most of them lie nearest to "
        "it.",
    )


def support_map(support: pd.DataFrame, assays: list[str], strata: list[str]) -> str:
    """Assays by groups, coloured by the mean silhouette."""
    from matplotlib.patches import Rectangle

    from sjd_dask.report.figures import INK, to_svg
    from sjd_dask.report.layer_figures import _panels

    figure, (axes,) = _panels(2.6 + 1.1 * len(strata), 1.1 + 0.5 * len(assays), 1, 1)
    square = support.pivot(index="assay", columns="stratum", values="silhouette").loc[assays, strata].to_numpy(float)
    most = max(0.1, float(np.nanmax(np.abs(square))) if np.isfinite(square).any() else 0.1)
    axes.grid(visible=False)
    drawn = axes.imshow(square, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    for row in support.to_dict("records"):
        y, x = assays.index(row["assay"]), strata.index(row["stratum"])
        text = "–" if not np.isfinite(row["silhouette"]) else f"{row['silhouette']:.2f}"
        dark = np.isfinite(row["silhouette"]) and abs(row["silhouette"]) > 0.6 * most
        axes.text(x, y, text, ha="center", va="center", fontsize=10, color="white" if dark else INK)
        if row["supports"]:
            axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, edgecolor=INK, lw=1.6))
    axes.set_xticks(range(len(strata)), [plain(shorten(one, 20)) for one in strata])
    axes.set_yticks(range(len(assays)), [plain(shorten(one, 30)) for one in assays])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("silhouette", color=INK, size=10)
    bar.ax.tick_params(colors=INK, labelsize=9)
    return to_svg(figure)
