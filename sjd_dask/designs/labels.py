"""Labels of a sample sheet as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def label_text(value: Any) -> str:
    """A cell as text, "" where it is missing.

    The number 3, the number 3.0 and the text "3" are one label: a column of whole numbers is read as floats where one
    of them is missing elsewhere.
    """
    if pd.isna(value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
