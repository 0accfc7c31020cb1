"""A backup is one moment of a cohort, whole or not there; what is restored is what was backed up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from store_helpers import put
from store_postgres import new_database, postgres_server
from withdraw_moments import make

from sjd_dask.cli import main
from sjd_dask.errors import DataError, SpecError
from sjd_dask.store import backup as backups
from sjd_dask.store.backup import backup, restore
from sjd_dask.store.catalogue import runs
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.verify import verify


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup") / "cohort"
    make(folder)
    return folder


@pytest.fixture
def cohort(template: Path, tmp_path: Path) -> Cohort:
    shutil.copytree(template, tmp_path / "cohort")
    return open_cohort(tmp_path / "cohort")


def records(cohort: Cohort) -> dict[str, list[Any]]:
    """All that the catalogue says, but for who is at work."""
    with cohort.catalogue.read() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table)).all()))
            for table in t.metadata.sorted_tables
            if table.name not in ("staging", "leases", "audit")
        }


def files(cohort: Cohort) -> dict[str, bytes]:
    return {
        entry.name: cohort.files.read_bytes(entry.name)
        for entry in cohort.files.walk()
        if entry.name.split("/")[0] in ("segments", "tables", "features", "models")
    }


def test_restored_is_what_was_backed_up(cohort: Cohort, tmp_path: Path) -> None:
    made = backup(cohort, tmp_path / "b.tar")
    again = restore(tmp_path / "new", tmp_path / "b.tar", data="bytes")
    assert again == made and made.n_files > 10
    new = open_cohort(tmp_path / "new")
    assert records(new) == records(cohort) and files(new) == files(cohort)
    assert (tmp_path / "new" / "bytes" / "segments").is_dir()
    verify(new)
    assert new.name == cohort.name and new.layout == cohort.layout
    # The file holds the key that names withdrawn people.
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0


def test_writers_go_on_and_the_backup_keeps_its_moment(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records(cohort)
    real = backups._write

    def later(*given: Any) -> Any:
        put(cohort, "late", ["Z1"], np.ones((1, 3)))
        return real(*given)

    monkeypatch.setattr(backups, "_write", later)
    backup(cohort, tmp_path / "b.tar")
    restore(tmp_path / "new", tmp_path / "b.tar")
    assert records(open_cohort(tmp_path / "new")) == before
    assert "late" in open_cohort(tmp_path / "cohort").assays()


def test_a_run_at_work_is_interrupted_in_the_copy(cohort: Cohort, tmp_path: Path) -> None:
    runs.claim_run(cohort.catalogue, "f" * 32, job="associate", output="x", spec={})
    backup(cohort, tmp_path / "b.tar")
    restore(tmp_path / "new", tmp_path / "b.tar")
    states = {run.state for run in open_cohort(tmp_path / "new").runs()}
    assert "interrupted" in states and "running" not in states
    assert "running" in {run.state for run in cohort.runs()}


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "changed":
        with tarfile.open(path) as archive:
            member = next(one for one in archive if "/c/" in one.name and one.size > 20)
            content[member.offset_data + 10] ^= 1
        path.write_bytes(content)
    elif how == "other":
        path.write_bytes(b"no archive at all")
    else:
        with tarfile.open(path, "a") as archive:
            archive.add(__file__, "data/../../outside")


@pytest.mark.parametrize(
    ("how", "said"),
    [("cut", "cut short|damaged"), ("changed", "lost or changed"), ("other", "not a backup"), ("more", "outside")],
)
def test_damage_is_named_and_leaves_no_cohort(cohort: Cohort, tmp_path: Path, how: str, said: str) -> None:
    backup(cohort, tmp_path / "b.tar")
    damaged(tmp_path / "b.tar", how)
    with pytest.raises(DataError, match=said):
        restore(tmp_path / "new", tmp_path / "b.tar")
    left = [path for path in (tmp_path / "new").rglob("*") if path.is_file()] if (tmp_path / "new").exists() else []
    assert left == [] and not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("what", ["features", "chunk", "changed"])
def test_lost_bytes_make_no_backup(cohort: Cohort, tmp_path: Path, what: str) -> None:
    name = next(
        f"segments/{entry.name}" for entry in cohort.files.walk("segments") if "/c/" in entry.name and entry.size > 20
    )
    if what == "features":
        name = next(f"features/{entry.name}" for entry in cohort.files.walk("features"))
    content = cohort.files.read_bytes(name)
    cohort.files.delete(name)
    if what == "changed":
        cohort.files.write_bytes(name, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=name.split("/")[-1]):
        backup(cohort, tmp_path / "b.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_refused(cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup(cohort, tmp_path / "b.tar", expire_hours=0)
    with pytest.raises(SpecError, match="doesn't overwrite"):
        backup(cohort, tmp_path / "b.tar")
    with pytest.raises(SpecError, match="a cohort already"):
        restore(tmp_path / "cohort", tmp_path / "b.tar")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(SpecError, match="other files"):
        restore(tmp_path / "full", tmp_path / "b.tar", allow_expired=True)
    time.sleep(0.01)
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(tmp_path / "new"), str(tmp_path / "b.tar")])
    assert ended.value.code == 3 and "should be gone" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(tmp_path / "new"), str(tmp_path / "b.tar"), "--allow-expired", "--json"])
    assert ended.value.code == 0 and json.loads(capsys.readouterr().out)["snapshot"] > 0


@pytest.mark.parametrize("at", ["data", "catalogue"])
def test_killed_restoring_begins_again(cohort: Cohort, tmp_path: Path, at: str) -> None:
    backup(cohort, tmp_path / "b.tar")
    code = f"""
import os, signal, sys
from sjd_dask.store import backup as b
def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
if {at!r} == "data":
    real = b.Files.write_bytes
    def count(self, path, content, durable=True, seen=[]):
        seen.append(path)
        if len(seen) == 6: die()
        return real(self, path, content, durable=durable)
    b.Files.write_bytes = count
else:
    real_fill = b._fill
    def half(*given):
        real_fill(*given); die()
    b._fill = half
b.restore({str(tmp_path / "new")!r}, {str(tmp_path / "b.tar")!r})
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=os.environ)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    with pytest.raises(SpecError, match="holds no cohort"):
        open_cohort(tmp_path / "new")
    restore(tmp_path / "new", tmp_path / "b.tar")
    new = open_cohort(tmp_path / "new")
    assert records(new) == records(cohort) and files(new) == files(cohort)


@pytest.mark.postgres
def test_between_databases(cohort: Cohort, tmp_path: Path) -> None:
    backup(cohort, tmp_path / "b.tar")
    with postgres_server() as server:
        url = new_database(server)
        restore(tmp_path / "new", tmp_path / "b.tar", catalogue=url)
        new = open_cohort(tmp_path / "new")
        assert records(new) == records(cohort)
        # New records are numbered after those that came along.
        put(new, "late", ["Z1"], np.ones((1, 3)))
        verify(new)
        backup(new, tmp_path / "c.tar")
        wanted = records(new)
        new.catalogue.close()
    restore(tmp_path / "back", tmp_path / "c.tar")
    assert records(open_cohort(tmp_path / "back")) == wanted
    (name,) = sqlite3.connect(tmp_path / "back" / "catalogue.sqlite").execute("PRAGMA integrity_check").fetchone()
    assert name == "ok"


def test_empty_cohort(tmp_path: Path) -> None:
    backup(create_cohort(tmp_path / "cohort"), tmp_path / "b.tar")
    restore(tmp_path / "new", tmp_path / "b.tar")
    assert list(open_cohort(tmp_path / "new").assays()) == []
