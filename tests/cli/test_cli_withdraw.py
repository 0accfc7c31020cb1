"""`sjd withdraw` as a user calls it. These ids are short, and look like numbers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sjd_dask.store.cohort import open_cohort

from .conftest import Sjd, check_refused


def write(folder: Path, *ids: str) -> Path:
    path = folder / "ids.txt"
    path.write_text("person_id\n" + "\n".join(ids) + "\n")
    return path


def test_a_person_leaves(cohort: Path, tables: Path, sjd: Sjd) -> None:
    ids = write(tables, "P3", "P4")
    looked = sjd("withdraw", cohort, ids, "--dry-run", "-q")
    assert looked.code == 0 and looked.out.startswith("people would be withdrawn: 2, with 4 samples"), looked.err
    assert len(open_cohort(cohort).samples()) == 24
    done = sjd("withdraw", cohort, ids)
    assert done.code == 0, done.err
    assert done.out.startswith("people withdrawn: 2, with 4 samples; written anew: 1 segments without 4 rows")
    assert "searched: no place of this cohort names them; signed in the audit" in done.out
    assert "backups made before must be gone by" in done.out and "writing the database anew" in done.err
    opened = open_cohort(cohort)
    gone = {"0006", "0007", "0008", "0009"}
    assert len(opened.samples()) == 20 and not gone & set(opened.samples().index)
    assert not gone & set(opened.assay("meth").sample_ids()) and not {"P3", "P4"} & set(opened.samples()["person_id"])
    assert "people withdrawn: 2, with 4 samples" in sjd("log", cohort).out
    assert sjd("verify", cohort).code == 0
    # What names them comes again: it is left out, and the rest is what is there already.
    again = sjd("ingest", cohort, "meth", tables / "betas.tsv", "--quantity", "beta", "--samples", tables / "sheet.csv")
    assert again.code == 0 and "4 samples of withdrawn people were left out" in again.out, again.err
    assert len(open_cohort(cohort).samples()) == 20
    assert sjd("withdraw", cohort, ids).out == "nothing to do: all 2 ids were withdrawn before\n"


def test_json_and_a_list_on_standard_input(
    cohort: Path, sjd: Sjd, monkeypatch: pytest.MonkeyPatch, tables: Path
) -> None:
    inbox = tables / "inbox"
    (inbox / "done").mkdir(parents=True)
    (inbox / "done" / "meth__1.tsv").write_text("feature_id\t0022\t0023\ncg00000\t0.5\t0.5\n")
    (cohort / "notes.txt").write_text("ask 'P11' again")
    monkeypatch.setattr("sys.stdin", io.StringIO("P11\nP99\n"))
    options = ["--json", "-q", "--allow-unknown", "--expire", 48, "--who", "the data manager", "--inbox", inbox]
    done = sjd("withdraw", cohort, "-", *options)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["status"], found["n_persons"], found["n_unknown"], found["n_rows"]) == ("withdrawn", 1, 1, 2)
    assert found["removed"] == ["done/meth__1.tsv"] and found["beside"] == ["notes.txt"]
    assert "notes.txt: this package did not write it" in done.err
    assert not any(one in done.out for one in ("P11", "0022", "0023", "P99"))


def test_what_is_refused(cohort: Path, tables: Path, sjd: Sjd) -> None:
    snapshot = open_cohort(cohort).snapshot()
    check_refused(sjd("withdraw", cohort, tables / "none.txt"), 2, ["none.txt cannot be read", "nobody was withdrawn"])
    check_refused(sjd("withdraw", cohort, write(tables)), 3, ["no ids in the list"])
    wrong = sjd("withdraw", cohort, write(tables, "P3", "p4", "P44"))
    check_refused(wrong, 3, ["2 of the 3 ids are neither people nor samples", "'p4', 'P44'", "--allow-unknown"])
    check_refused(
        sjd("withdraw", cohort, write(tables, "0006")), 3, ["'0006' (of 'P3')", "write their person_id instead"]
    )
    check_refused(sjd("withdraw", cohort, write(tables, "P3"), "--inbox", tables / "no"), 2, ["is not a folder"])
    with open_cohort(cohort).lease("night"):
        check_refused(sjd("withdraw", cohort, write(tables, "P3"), "-q"), 6, ["holds the night of this cohort"])
    assert open_cohort(cohort).snapshot() == snapshot
