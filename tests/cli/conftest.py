"""The command line, called in this process: exit code, stdout, stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.cli import main


@dataclass(frozen=True)
class Called:
    """What one call of `sjd` gave."""

    code: int
    out: str
    err: str


Sjd = Callable[..., Called]


@pytest.fixture
def sjd(capsys: pytest.CaptureFixture[str]) -> Sjd:
    """Call `sjd` with arguments; nothing is raised."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Called(int(ended.value.code or 0), captured.out, captured.err)

    return call


def call_spec(sjd: Sjd, home: Path, command: str, keys: Mapping[str, Any], *options: object) -> Called:
    """`sjd COMMAND` of a spec in the folder of the cohort; a key that is None is left out."""
    path = home / "spec.yaml"
    spec = {"cohort": "cohort", **keys}
    path.write_text(json.dumps({key: value for key, value in spec.items() if value is not None}))
    return sjd(command, path, *options)


def check_refused(done: Called, code: int, words: Iterable[str]) -> None:
    """One message that names all `words`, no traceback, nothing on stdout."""
    lines = [line for line in done.err.splitlines() if not line.startswith("INFO distributed")]
    assert done.code == code, done.err
    assert lines[0].startswith("sjd: error: ") and "Traceback" not in done.err and done.out == ""
    for word in words:
        assert word in done.err, done.err


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A small beta matrix with features in rows, and its sample sheet. Ids keep their leading zeros."""
    rng = np.random.default_rng(3)
    ids = [f"0{i:03d}" for i in range(24)]
    group = np.repeat(["healthy", "patient"], 12)
    m = rng.normal(0, 1, (60, 24)) + rng.normal(0, 2, (60, 1))
    m[:6] += np.where(group == "patient", 4.0, 0.0)
    beta = 2.0**m / (1 + 2.0**m)
    frame = pd.DataFrame(beta, index=[f"cg{i:05d}" for i in range(60)], columns=ids)
    frame.to_csv(tmp_path / "betas.tsv", sep="\t", index_label="feature_id", float_format="%.5f")
    sheet = pd.DataFrame(
        {
            "sample_id": ids,
            "person_id": [f"P{i // 2}" for i in range(24)],
            "visit": np.tile([1, 2], 12),
            "disease": group,
            "age": rng.integers(20, 80, 24),
        }
    )
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    return tmp_path


@pytest.fixture
def cohort(tables: Path, sjd: Sjd) -> Path:
    """A cohort that holds the small matrix."""
    path = tables / "cohort"
    assert sjd("init", path).code == 0
    done = sjd(
        "ingest", path, "meth", tables / "betas.tsv", "--quantity", "beta", "--samples", tables / "sheet.csv", "-q"
    )
    assert done.code == 0, done.err
    return path


@pytest.fixture
def spec(cohort: Path) -> Path:
    """An association spec beside the cohort."""
    path = cohort.parent / "ewas.yaml"
    path.write_text(
        "job: associate\ncohort: cohort\nassay: meth\nquantity: m_value\ndesign: '~ disease + age'\n"
        "contrasts: ['disease[T.patient]']\noutput: ewas\n",
        encoding="utf-8",
    )
    return path
