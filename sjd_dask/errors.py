"""The exceptions people meet.

Each says what, the numbers, why it is refused, and the remedy; each carries the exit code of the command line.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable
from typing import Any, ClassVar


def _rebuild(kind: type[SjdError], args: tuple[Any, ...], state: dict[str, Any]) -> SjdError:
    """Make an error again from what crossed a process boundary, without calling its own constructor."""
    error = kind.__new__(kind, *args)
    if isinstance(error, ImportError):
        ImportError.__init__(error, *args)  # sets `msg`, which str() reads
    error.__dict__.update(state)
    return error


class SjdError(Exception):
    """Base of every error this package raises on purpose. Exit code 1."""

    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling whatever the constructor of the subclass takes: workers send errors to the driver."""
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class SpecError(SjdError, ValueError):
    """A job spec, an option or a name that can't be used: exit code 2."""

    exit_code: ClassVar[int] = 2


class DesignError(SpecError):
    """A design or contrast that can't be estimated from the selected samples: exit code 2."""


class DataError(SjdError, ValueError):
    """Data that breaks a rule: exit code 3. Nothing was published."""

    exit_code: ClassVar[int] = 3


class FormatVersionError(DataError):
    """The cohort on disk is newer than this package: exit code 3."""

    def __init__(self, found: int, known: int, what: str = "cohort") -> None:
        super().__init__(
            f"this {what} has on-disk format {found}, and this version of sjd-dask knows formats up to {known}; "
            f"nothing was touched. Install a newer sjd-dask (pip install --upgrade sjd-dask)."
        )
        self.found = found
        self.known = known


class PlanRefused(SjdError):
    """A plan that can't fit in memory, time or layout: exit code 4. Nothing was started."""

    exit_code: ClassVar[int] = 4


class Interrupted(SjdError):
    """Work that stopped before its end and can be resumed: exit code 5."""

    exit_code: ClassVar[int] = 5


class Busy(SjdError):
    """Another writer holds what this one needs: exit code 6. Nothing was lost."""

    exit_code: ClassVar[int] = 6


class MissingDependency(SjdError, ImportError):
    """An optional dependency is absent. The message names the extra that brings it."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed: pip install 'sjd-dask[{extra}]'"
        )
        self.package = package
        self.extra = extra


def findings_text(error: Any, model: Any, own: Callable[[Any], str | None] | None = None) -> str:
    """What a checked model refused, a sentence for each finding, with the nearest known key for a typing error.

    Parameters
    ----------
    error : pydantic.ValidationError
    model : type of pydantic.BaseModel
        The model that was asked for; the nested ones are found from its fields.
    own : callable, optional
        Gives the sentence of a finding that the model words itself, or None.
    """
    told: list[tuple[str, bool, str, str]] = []  # key, of a type that was tried, sentence up to what was found, found
    for finding in error.errors():
        keys, holders, inner, tried = _keys_of(finding["loc"], finding["type"], model)
        key, kind, given = ".".join(keys), finding["type"], finding["input"]
        if own is not None and (sentence := own(finding)) is not None:
            told.append((key, False, sentence, ""))
        elif kind == "extra_forbidden":
            known = list(dict.fromkeys(name for one in holders for name in one.model_fields))
            near = difflib.get_close_matches(keys[-1], known, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; the known keys are: {', '.join(known)}"
            told.append((key, False, f"unknown key `{key}`{hint}", ""))
        elif kind == "missing":
            told.append((key, False, f"the key `{key}` is required", ""))
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            tag = finding["ctx"]["discriminator"].strip("'")
            choices = ", ".join(dict.fromkeys(_literals(one, tag) for one in inner))
            near = difflib.get_close_matches(tag, list(given), n=1) if isinstance(given, dict) else []
            if kind == "union_tag_invalid":
                sentence = f"`{key}.{tag}` is {finding['ctx']['tag']!r}; it is one of {choices}"
            elif near:
                sentence = f"unknown key `{key}.{near[0]}`; did you mean `{tag}`?"
            else:
                sentence = f"the key `{key}.{tag}` is required; it is one of {choices}"
            told.append((key, False, sentence, ""))
        elif kind == "string_pattern_mismatch":
            sentence = (
                f"`{key}` is {given!r}; a name starts with a letter or digit and holds only letters, digits, '_', '-' "
                "and '.'"
            )
            told.append((key, False, sentence, ""))
        else:
            message = finding["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
            shown = "" if isinstance(given, dict) or hasattr(given, "model_fields") else f" (found {given!r})"
            shown = "" if len(shown) > 100 and isinstance(given, (list, tuple)) else shown
            told.append((key, tried, f"`{key}`: {message}" if key else message, shown if key else ""))
    return "; ".join(_joined(told))


def _joined(told: list[tuple[str, bool, str, str]]) -> list[str]:
    """Sentences, once each. Of several types that were tried, the one that was meant has findings of its own keys."""
    sentences: list[str] = []
    for key, tried, sentence, found in told:
        if tried and any(other.startswith(f"{key}.") for other, *_ in told):
            continue
        before = next((i for i, one in enumerate(sentences) if tried and one.startswith(f"`{key}`: ")), None)
        text = f"{sentence}{found}"
        if before is None:
            sentences.append(text)
        elif text != sentences[before]:
            more = sentence.removeprefix(f"`{key}`: ").removeprefix("Input should be ")
            sentences[before] = f"{sentences[before].removesuffix(found)} or {more}{found}"
    return list(dict.fromkeys(sentences))


def _keys_of(loc: tuple[Any, ...], kind: str, root: Any) -> tuple[list[str], list[Any], list[Any], bool]:
    """Where a finding is.

    Returns
    -------
    keys : list of str
        Those it passes, without the names of the types that pydantic tried.
    holders, inner : list
        The models that may hold the last key, and those it may hold itself.
    tried : bool
        Whether the finding is that a value isn't of one of several types.
    """
    holders, inner = [root], [root]
    keys: list[str] = []
    tried = False
    for i, step in enumerate(loc):
        text, last = str(step), i == len(loc) - 1
        field = next((found for one in inner if (found := _field(one, text)) is not None), None)
        named = [one for one in inner if text == one.__name__ or text in _tags(one)]
        if field is not None:
            keys.append(text)
            holders, inner = inner, _models(field.annotation)
        elif isinstance(step, int) or (last and kind in ("extra_forbidden", "missing")):
            keys.append(text)
            holders = inner
        elif named or text in _TYPES or "[" in text or text.startswith("function-"):
            inner = named or inner
            tried = last and kind != "value_error"
        else:
            keys.append(text)
    return keys, holders, inner, tried


_TYPES = ("str", "int", "float", "bool", "none", "date", "path")


def _field(model: Any, name: str) -> Any:
    """A field of a model by its key."""
    fields = model.model_fields
    return fields.get(name) or next((one for one in fields.values() if one.alias == name), None)


def _tags(model: Any) -> set[str]:
    """The words by which a union can tell a model: those of its fields that allow some words alone."""
    return {
        str(word) for one in model.model_fields.values() if typing.get_origin(one.annotation) is typing.Literal
        for word in typing.get_args(one.annotation)
    }  # fmt: skip


def _literals(model: Any, field: str) -> str:
    return ", ".join(map(str, typing.get_args(model.model_fields[field].annotation)))


def _models(annotation: Any) -> list[Any]:
    """The models within a type."""
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [model for one in typing.get_args(annotation) for model in _models(one)]
