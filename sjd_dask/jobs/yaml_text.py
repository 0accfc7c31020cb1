"""YAML as people write specs: names of coefficients need no quotes."""

from __future__ import annotations

import re
from typing import Any

import yaml

# A coefficient as formulas name it, such as disease[T.patient]:age. Its brackets end a bare word in a YAML list.
_VARIABLE = r"[^\W\d][\w.()]*"
_FACTOR = rf"{_VARIABLE}\[T\.[^\[\]{{}}\"',\n]*\]"
_COEFFICIENT = re.compile(
    rf"(?<![\"'\w.(:])((?:{_VARIABLE}:)*{_FACTOR}(?::{_VARIABLE}(?:\[T\.[^\[\]{{}}\"',\n]*\])?)*)"
)


def load_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What the YAML says.

    A text that isn't valid YAML is read once more with names of coefficients in quotes: ``[disease[T.patient]]`` is how
    they are written everywhere else.

    Raises
    ------
    yaml.YAMLError
        Not valid YAML.
    """
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        quoted = _COEFFICIENT.sub(r'"\1"', text)
        if quoted == text:
            raise
        try:
            return yaml.load(quoted, loader)
        except yaml.YAMLError:
            raise error from None
