"""Numbers and names as a reader wants them."""

from __future__ import annotations

import json
import math
import re
from typing import Any


def number(value: Any, digits: int = 4) -> str:
    """A number in at most ``digits`` significant digits; a dash when it is missing."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return {"inf": "∞", "infinity": "∞"}.get(value.lower(), value)
    value = float(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def count(value: Any) -> str:
    """A whole number with thousands separated; a dash when it is missing."""
    return "–" if value is None else f"{int(value):,}"


def spread(value: Any, digits: int = 4) -> str:
    """One number, or ``median (min to max)`` of three."""
    if isinstance(value, (list, tuple)) and len(value) == 3:
        low, middle, high = (number(v, digits) for v in value)
        return f"{middle} (median; {low} to {high})"
    return number(value, digits)


def plain(text: str) -> str:
    """Text for a figure: letters that its font lacks become question marks."""
    return "".join(c if c.isprintable() and (ord(c) < 0x500 or c in "−₀₁₂–…") else "?" for c in text)


def shorten(text: str, length: int = 24) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def natural_key(text: Any) -> list[tuple[int, int, str]]:
    """Order in which ``plate_2`` comes before ``plate_10``."""
    parts = re.split(r"(\d+)", str(text))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def spec_text(spec: Any) -> str:
    """A spec as YAML, as the user would write it."""
    import yaml

    data = json.loads(json.dumps(spec, default=str))
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)).rstrip()


def expression(weights: dict[str, float]) -> str:
    """A contrast as a sum: ``a - 0.5 b``; a plain coefficient is its own name."""
    parts: list[str] = []
    for name, weight in weights.items():
        if weight == 0:
            continue
        size = "" if abs(weight) == 1 else f"{number(abs(weight))} "
        sign = "-" if weight < 0 else "+"
        parts.append(f"{sign} {size}{name}")
    text = " ".join(parts)
    return text[2:] if text.startswith("+ ") else text
