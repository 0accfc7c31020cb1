"""The exceptions people meet.

Each says what, the numbers, why it is refused, and the remedy; each carries the exit code of the command line.
"""

from __future__ import annotations

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
