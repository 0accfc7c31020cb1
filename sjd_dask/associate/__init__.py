"""Per-feature tests: linear models with moderated t, and tests between groups.

The package is called like the function it holds: ``sjd_dask.associate(...)`` works whether or not the package was
imported before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that passes calls on to `sjd_dask.associate.api.associate`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from sjd_dask.associate.api import associate

        return associate(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
