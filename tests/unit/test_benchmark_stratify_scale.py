"""The benchmark of landmark consensus runs, and its cost grows no faster than the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_files import benchmark

from sjd_dask.stratify.choose import COMBINED
from sjd_dask.stratify.consensus import consensus_of_rounds
from sjd_dask.stratify.landmarks import Landmarks
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import resample_labels


def test_small_form(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = benchmark("stratify_scale")
    rows = module.main(
        [str(tmp_path), "--samples=600", "--features=60", "--resamples=20", "--landmarks=150", "--effect=0.8",
         "--workers=1"]
    )  # fmt: skip
    assert rows[0]["truth"] > 0.9 and rows[0]["check"] > 0.8 and rows[0]["k"] == 4
    assert "| 600 |" in (tmp_path / "stratify_scale.md").read_text()
    assert module.exponent([100, 1000], [5.0, 50.0]) == pytest.approx(1.0)


def test_placing_looks_at_every_sample_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of a sample doesn't hang on how many there are: products are counted, not seconds."""
    random = np.random.default_rng(2)
    values = random.normal(size=(2400, 30)) + 2.0 * random.normal(size=(3, 30))[random.integers(0, 3, 2400)]
    ids = [f"s{i:04d}" for i in range(2400)]
    recipe = Recipe(k=(2, 3), resamples=8)
    labels = resample_labels(values[:100], ids[:100], recipe)
    groups = {
        (name, k): consensus_of_rounds(labels[:, :, j] if a is None else labels[:, [a], j], k)[0]
        for j, k in enumerate(recipe.k)
        for a, name in [*enumerate(recipe.algorithms), (None, COMBINED)]
    }
    landmarks = Landmarks(values[:100], tuple(ids[:100]), recipe, labels, groups, 3)
    scored = 0

    def counted(self, block):
        nonlocal scored
        for a, scores, tolerance in original(self, block):
            scored += scores.size
            yield a, scores, tolerance

    from sjd_dask.stratify.placing import Rules

    original = Rules.scores
    monkeypatch.setattr(Rules, "scores", counted)
    cost = []
    for n in (600, 1200, 2400):
        scored = 0
        landmarks.place(values[:n], ids[:n])
        cost.append(scored / n)
    assert cost == [8 * 5 * 4] * 3
