"""A finished trial by stratum is as R has it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.trials.reanalyse import Reanalysis, reanalyse

FOLDER = Path(__file__).parent / "reference" / "reanalysis"


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.tsv.gz", sep="\t")


def run(kind: Literal["continuous", "binary"], endpoint: str) -> Reanalysis:
    return reanalyse(
        table("trial"), endpoint=endpoint, arm="arm", control="placebo", by=["class"], kind=kind, baseline="baseline"
    )


def terms(found: Reanalysis) -> pd.DataFrame:
    effects = found.effects
    return effects.set_index(effects["level"] + ":" + effects["arm"])


def test_continuous_effects_and_interaction_are_those_of_lm_and_sandwich() -> None:
    found, reference = run("continuous", "change"), table("continuous").set_index("term")
    ours = terms(found).loc[reference.index]
    for column in ("effect", "standard_error", "low", "high", "p_value"):
        np.testing.assert_allclose(ours[column], reference[column], rtol=1e-9, err_msg=column)
    one, said = found.interactions.iloc[0], table("tests").set_index("kind").loc["continuous"]
    for column in ("statistic", "df", "df_residual", "p_value"):
        assert one[column] == pytest.approx(said[column], rel=1e-9), column
    assert any("2 of 160" in note for note in found.notes)


def test_binary_effects_and_interaction_are_those_of_glm() -> None:
    found, reference = run("binary", "responder"), table("binary").set_index("term")
    ours = terms(found).loc[reference.index]
    for column in ("effect", "standard_error", "p_value"):
        np.testing.assert_allclose(ours[column], reference[column], rtol=1e-7, err_msg=column)
    one, said = found.interactions.iloc[0], table("tests").set_index("kind").loc["binary"]
    for column in ("statistic", "df", "p_value"):
        assert one[column] == pytest.approx(said[column], rel=1e-7), column
