"""Planted classes, and layers without any: what `stratify` finds, invents and misses.

    python benchmarks/stratify_truth.py FOLDER [--parts null power truth] [--small]

Writes one table for each part to FOLDER (tab-separated), prints the summaries as Markdown, and draws the curves.

null    Layers without groups: independent features, features that depend on their neighbours, strong factors, blocks of
        correlated features; and three that no Gaussian is: heavy tails, a skewed factor, a sample far from all. How
        often the test of no groups rejects, at 5 % and at the level that is used.
power   Four classes (33, 25, 29 and 13 %) beside continuous factors: how often it rejects.
truth   The same classes through the whole of it, resamples of four algorithms and the choice of k, and above 2,000
        samples landmarks: adjusted Rand index of the groups with the classes beside that of the Bayes classifier, which
        knows centres, covariance and shares; and which k is chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.choose import COMBINED, LEVEL, choose_k
from sjd_dask.stratify.landmarks import Landmarks
from sjd_dask.stratify.null import components_of, data_statistics, null_statistics
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import resample_labels

SHARES = np.array([0.33, 0.25, 0.29, 0.13])
FEATURES = 200
GAUSSIAN = ("independent", "neighbours", "factors", "blocks")
NOT_GAUSSIAN = ("heavy tails", "skewed factor", "one far sample")
KS = (2, 3, 4, 5, 6)
DRAWS = 99  # p-values are multiples of 1 / 100
BLOCK = 20_000


def ids_of(n: int) -> list[str]:
    """Sample ids."""
    return [f"s{i:06d}" for i in range(n)]


def without_groups(kind: str, n: int, random: np.random.Generator) -> np.ndarray:
    """A layer of one population, (n, FEATURES)."""
    values = random.normal(size=(n, FEATURES))
    if kind == "neighbours":
        for f in range(1, FEATURES):
            values[:, f] += 0.9 * values[:, f - 1]
    elif kind == "factors":
        values += random.normal(size=(n, 3)) @ random.normal(size=(3, FEATURES))
    elif kind == "blocks":
        values += np.repeat(random.normal(size=(n, 10)), FEATURES // 10, axis=1)
    elif kind == "heavy tails":
        values += random.normal(size=(n, 3)) @ random.normal(size=(3, FEATURES))
        values *= np.sqrt(5 / random.chisquare(5, size=(n, 1)))
    elif kind == "skewed factor":
        values += random.exponential(size=(n, 1)) @ random.normal(size=(1, FEATURES))
    elif kind == "one far sample":
        values[0] += 5.0
    return values


class Classes:
    """Four classes beside factors, with the classifier that knows everything."""

    def __init__(self, apart: float, factors: int, strength: float, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.centres = apart * self.random.normal(size=(4, FEATURES))
        self.loadings = strength * self.random.normal(size=(factors, FEATURES))
        covariance = np.eye(FEATURES) + self.loadings.T @ self.loadings
        self.directions = np.linalg.solve(covariance, self.centres.T)
        self.offsets = np.log(SHARES) - 0.5 * np.einsum("kf,fk->k", self.centres, self.directions)

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and classes of so many samples."""
        truth = self.random.permutation(np.searchsorted(np.cumsum(SHARES)[:-1], (np.arange(n) + 0.5) / n))
        values = self.random.normal(size=(n, FEATURES)) + self.centres[truth]
        return values + self.random.normal(size=(n, len(self.loadings))) @ self.loadings, truth

    def bayes(self, values: np.ndarray) -> np.ndarray:
        """The most probable class of each sample."""
        return np.asarray((values @ self.directions + self.offsets).argmax(axis=1))


def p_value(values: np.ndarray, seed: int) -> float:
    """The test of no groups alone."""
    ids, recipe = ids_of(len(values)), Recipe(k=KS, seed=seed)
    draws = null_statistics(values, ids, recipe, 0, DRAWS)
    together = np.vstack([data_statistics(components_of(values, ids, recipe), recipe), draws])[:, len(KS) :]
    best = ((together.mean(axis=0) - together) / together.std(axis=0)).max(axis=1)
    return float(np.mean(best >= best[0]))


def null(small: bool) -> Iterator[dict[str, object]]:
    """A row for each layer without groups."""
    kinds = [*GAUSSIAN, *NOT_GAUSSIAN]
    for n, times, others in ((60, 100, 30), (200, 50, 30), (600, 20, 20), (2000, 5, 5)) if not small else ((60, 2, 2),):
        for seed in range(times):
            for kind in kinds if seed < others else GAUSSIAN:
                random = np.random.default_rng([n, seed, kinds.index(kind)])
                yield {"kind": kind, "n": n, "seed": seed, "p": p_value(without_groups(kind, n, random), seed)}


def power(small: bool) -> Iterator[dict[str, object]]:
    """A row for each layer with classes."""
    for n, times in ((100, 10), (300, 10), (1000, 4)) if not small else ((100, 1),):
        for factors, strength in ((0, 0.0), (3, 0.3), (3, 1.0), (10, 1.0)):
            for apart in (0.1, 0.15, 0.2, 0.3, 0.5):
                for seed in range(times):
                    values, _ = Classes(apart, factors, strength, seed).draw(n)
                    yield {
                        "n": n, "factors": factors, "strength": strength, "apart": apart, "seed": seed,
                        "p": p_value(values, seed),
                    }  # fmt: skip


def truth(small: bool) -> Iterator[dict[str, object]]:
    """A row for each layer, the larger ones by landmarks of the same classes."""
    settings = ((0, 0.0), (3, 0.5))
    for seed in range(5) if not small else (0,):
        for factors, strength in settings:
            for apart in (0.08, 0.12, 0.16, 0.2, 0.3, 0.5, 1.0) if not small else (0.5,):
                yield from _grouped(Classes(apart, factors, strength, seed), 300, [300], 20, apart, factors, seed)
    for apart in (0.16, 0.3, 0.12, 0.2, 0.08) if not small else ():
        for factors, strength in settings:
            sizes = [2000, 20_000, 200_000] if apart in (0.16, 0.3) else [2000, 20_000]
            yield from _grouped(Classes(apart, factors, strength, 100), 2000, sizes, 10, apart, factors, 100)


def _grouped(
    classes: Classes, m: int, sizes: list[int], resamples: int, apart: float, factors: int, seed: int
) -> Iterator[dict[str, object]]:
    values, truth = classes.draw(m)
    ids, recipe = ids_of(m), Recipe(k=KS, resamples=resamples, seed=seed)
    labels = resample_labels(values, ids, recipe)
    choice = choose_k(values, ids, recipe, labels, null_statistics(values, ids, recipe, 0, DRAWS))
    known = {
        "apart": apart, "factors": factors, "seed": seed, "k": choice.k, "p": choice.p_value,
        "trusted": " ".join(choice.algorithms),
    }  # fmt: skip

    def row(n: int, truth: np.ndarray, bayes: np.ndarray, groups: np.ndarray, at_4: np.ndarray) -> dict[str, object]:
        return {
            **known, "n": n, "ari": adjusted_rand_index(truth.tolist(), groups.tolist()),
            "ari_4": adjusted_rand_index(truth.tolist(), at_4.tolist()),
            "bayes": adjusted_rand_index(truth.tolist(), bayes.tolist()),
        }  # fmt: skip

    alone = np.zeros(m, dtype=np.int64)
    groups = choice.groups[COMBINED, choice.k] if choice.k > 1 else alone
    alone_4 = {name: adjusted_rand_index(truth.tolist(), choice.groups[name, 4].tolist()) for name in recipe.algorithms}
    yield {**row(m, truth, classes.bayes(values), groups, choice.groups[COMBINED, 4]), **alone_4}
    trusted, rounds = choice.trusted(recipe, labels)
    for n in sizes[1:]:
        # The first m samples are the landmarks: they are drawn of the same population.
        marks = Landmarks(values, tuple(ids), trusted, rounds, choice.groups, 4)
        found, right, known_best = [], [], []
        for start in range(0, n, BLOCK):
            part, theirs = classes.draw(min(BLOCK, n - start))
            placed = marks.place(part, [f"n{start + i:06d}" for i in range(len(part))])
            found.append(placed.groups)
            right.append(theirs)
            known_best.append(classes.bayes(part))
        everybody, right_all = np.concatenate(found), np.concatenate(right)
        at_4 = everybody[:, trusted.k.index(4)]
        chosen = everybody[:, trusted.k.index(choice.k)] if choice.k > 1 else np.zeros(n, dtype=np.int64)
        yield row(n, right_all, np.concatenate(known_best), chosen, at_4)


def summary(part: str, table: pd.DataFrame) -> str:
    """The part as a Markdown table."""
    if part == "null":
        by = table.groupby(["kind", "n"], sort=False)["p"]
        made = pd.DataFrame({
            "layers": by.size(), "p <= 0.05": by.apply(lambda p: int((p <= 0.05).sum())),
            f"p <= {LEVEL:g}": by.apply(lambda p: int((p <= LEVEL).sum())),
        }).reset_index()  # fmt: skip
    elif part == "power":
        made = table.assign(found=table["p"] <= LEVEL).pivot_table(
            index=["factors", "strength", "n"], columns="apart", values="found", aggfunc="mean"
        ).reset_index()  # fmt: skip
    else:
        by = table.groupby(["factors", "n", "apart"])
        made = by.agg(
            layers=("ari", "size"), bayes=("bayes", "mean"), ari_4=("ari_4", "mean"), ari=("ari", "mean"),
            k=("k", lambda k: " ".join(f"{one}: {times}" for one, times in k.value_counts().sort_index().items())),
        ).reset_index()  # fmt: skip
    lines = ["| " + " | ".join(map(str, made.columns)) + " |", "|" + "---|" * len(made.columns)]
    lines += [
        "| " + " | ".join(f"{one:.2f}" if isinstance(one, float) else str(one) for one in row) + " |"
        for row in made.itertuples(index=False)
    ]
    return "\n".join(lines)


def picture(table: pd.DataFrame, path: Path) -> None:
    """Adjusted Rand index against the distance of the classes, beside the Bayes classifier's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (factors, part) in zip(panels, table.groupby("factors"), strict=True):
        bound = part.groupby("apart")["bayes"].mean()
        axes.plot(bound.index, bound, color="0.3", linestyle="--", label="Bayes classifier")
        for n, own in part.groupby("n"):
            curve = own.groupby("apart")["ari"].mean()
            axes.plot(curve.index, curve, marker="o", markersize=4, label=f"{n:,} samples")
        axes.set_xscale("log")
        ticks = sorted(part["apart"].unique())
        axes.set_xticks(ticks, [f"{one:g}" for one in ticks])
        axes.minorticks_off()
        axes.set_xlabel("SD of a feature's centres (noise has SD 1)")
        axes.set_title(f"beside {factors} continuous factors" if factors else "no factors")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("adjusted Rand index with the classes")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Make the parts that are asked for, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", choices=("null", "power", "truth"), default=("null", "power", "truth"))
    parser.add_argument("--small", action="store_true", help="one short form of each, to see that it works")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for part in chosen.parts:
        rows = []
        path = chosen.folder / f"stratify_{part}.tsv"
        for row in {"null": null, "power": power, "truth": truth}[part](chosen.small):
            rows.append(row)
            pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
        table = pd.DataFrame(rows)
        print(f"\n### {part}\n\n{summary(part, table)}", flush=True)
        if part == "truth":
            picture(table, chosen.folder / "stratify_truth.png")


if __name__ == "__main__":
    main()
