"""Who may import whom: the test that walks the imports and fails on any other arrow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sjd_dask"

MATHEMATICS = {"normalise", "associate", "stratify", "classify", "clinical", "simulate"}
ALLOWED: dict[str, set[str]] = {
    "names": set(),
    "errors": set(),
    "kernels": {"names", "errors"},
    "designs": {"names", "errors", "kernels"},
    **{room: {"names", "errors", "kernels", "designs"} for room in MATHEMATICS},
    "store": {"names", "errors"},
    "runtime": {"names", "errors", "store"},
    "report": {"names", "errors", "store"},
    "jobs": {"names", "errors", "kernels", "designs", "store", "runtime"} | MATHEMATICS,
    "cli": {"names", "errors", "store", "runtime", "jobs", "report"} | MATHEMATICS,
    "demo": {"names", "errors", "store", "runtime", "jobs", "report", "cli"} | MATHEMATICS,
}
ONLY_IN: dict[str, set[str]] = {
    "zarr": {"store"},
    "zarrs": {"store"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "obstore": {"store"},
    "distributed": {"runtime"},
    "dask_jobqueue": {"runtime"},
    "dask_kubernetes": {"runtime"},
    "matplotlib": {"report"},
}
NOT_IN: dict[str, set[str]] = {"kernels": {"dask", "xarray", "pandas", "pyarrow"}}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[tuple[str, ...]]:
    """Absolute dotted names imported anywhere in a file, also inside functions."""
    package = ("sjd_dask", *path.relative_to(PACKAGE).with_suffix("").parts[:-1])
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            found |= {(*module, alias.name) for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_walk_sees_the_package() -> None:
    assert {"names", "errors", "kernels", "store", "runtime", "jobs"} <= {_room(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_plan(path: Path) -> None:
    room = _room(path)
    if room in ("__init__", "__main__"):
        return
    allowed = ALLOWED[room] | {room}
    for dotted in _imports(path):
        if dotted[0] == "sjd_dask" and len(dotted) > 1 and dotted[1] != "__version__":
            assert dotted[1] in allowed, f"{path.name}: {room} may not import {'.'.join(dotted)}"
        keepers = ONLY_IN.get(dotted[0])
        assert keepers is None or room in keepers, f"{path.name}: only {keepers} may import {dotted[0]}"
        assert dotted[0] not in NOT_IN.get(room, set()), f"{path.name}: {room} may not import {dotted[0]}"


def test_import_is_quick_and_brings_no_heavy_library() -> None:
    code = (
        "import sys, sjd_dask, sjd_dask.cli;"
        "heavy = {'distributed', 'zarr', 'numba', 'matplotlib', 'sqlalchemy', 'xarray', 'pandas'} & set(sys.modules);"
        "sys.exit(f'imported on start: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_arrow_the_plan_forbids_is_seen(tmp_path: Path) -> None:
    bad = PACKAGE / "kernels" / "_never_written.py"
    source = "from sjd_dask.store import cohort\n"
    tree = {
        tuple([*node.module.split("."), alias.name])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert any(dotted[1] not in ALLOWED[_room(bad)] for dotted in tree)
