"""Beta values, M-values and their look-up tables."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import SpecError
from sjd_dask.kernels.methylation import BETA_CLIP, beta_table, beta_to_m, beta_to_m_table


def test_m_value_is_the_base_two_logit() -> None:
    np.testing.assert_allclose(beta_to_m(np.array([0.5, 0.2, 0.8])), [0.0, -2.0, 2.0], atol=1e-15)
    assert np.isnan(beta_to_m(np.array([np.nan]))).all()


def test_extremes_are_clipped_by_half_a_step() -> None:
    low, high = beta_to_m(np.array([0.0, 1.0]))
    assert low == pytest.approx(-17, abs=1e-4)
    assert high == pytest.approx(17, abs=1e-4)
    assert beta_to_m(np.array([BETA_CLIP / 3]))[0] == low
    with pytest.raises(SpecError, match="clip"):
        beta_to_m(np.array([0.5]), clip=0.5)


def test_table_holds_the_value_of_each_code_and_nan_for_the_fill() -> None:
    scale = 1 / 65534
    table, betas = beta_to_m_table(scale, 65535), beta_table(scale, 65535)
    codes = np.array([0, 1, 30000, 65534])
    np.testing.assert_array_equal(betas[codes], codes * scale)
    np.testing.assert_array_equal(table[codes], beta_to_m(codes * scale))
    assert np.isnan(table[65535]) and np.isnan(betas[65535])
    assert (np.diff(table[:65535]) >= 0).all()


def test_codes_that_stand_for_more_than_one_were_never_stored() -> None:
    table = beta_table(1 / 100, None, n_codes=256)
    assert table[100] == 1.0
    assert np.isnan(table[101:]).all()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SpecError, match="scale"):
        beta_table(0.0, None)
    with pytest.raises(SpecError, match="256 codes"):
        beta_table(0.01, 300, n_codes=256)
