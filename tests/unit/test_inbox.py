"""The inbox: which files are arrivals, what becomes of names that are taken, and half archives in a quarantine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sjd_dask.errors import SpecError
from sjd_dask.jobs.inbox import Arrivals, InboxFile, digest, list_inbox, put_away
from sjd_dask.store.withdraw.blobs import blob_names
from sjd_dask.store.withdraw.ids import Leaving


def arrive(folder: Path, name: str, text: str = "x") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_what_is_an_arrival(tmp_path: Path) -> None:
    for name in ("rna__b.npz", "rna__a.samples.csv", "rna__a__more.tsv.gz", "__x.npz", "rna.npz", "dna__x.npz"):
        arrive(tmp_path, name)
    for name in (".rna__x.npz", "rna__x.npz.part", "rna__y.tmp", "rna__z.npz~"):
        arrive(tmp_path, name)
    for name in ("done", "quarantine", "rna__folder", "rna__z.zarr"):
        (tmp_path / name).mkdir()
    found = list_inbox(tmp_path, ["rna"])
    assert [(one.name, one.is_sheet) for one in found.files] == [
        ("rna__a.samples.csv", True), ("rna__a__more.tsv.gz", False), ("rna__b.npz", False), ("rna__z.zarr", False),
    ]  # fmt: skip
    assert {one.name for one, _ in found.refused} == {"__x.npz", "rna.npz", "dna__x.npz"}
    assert "'dna'" in dict((one.name, why) for one, why in found.refused)["dna__x.npz"]
    assert found.waiting == []
    with pytest.raises(SpecError, match="not a folder"):
        list_inbox(tmp_path / "nowhere", ["rna"])


def test_files_that_may_still_be_written_wait(tmp_path: Path) -> None:
    arrive(tmp_path, "rna__new.npz")
    old = arrive(tmp_path, "rna__old.npz")
    ahead = arrive(tmp_path, "rna__ahead.npz")
    os.utime(old, (time.time() - 100, time.time() - 100))
    os.utime(ahead, (time.time() + 1000, time.time() + 1000))
    found = list_inbox(tmp_path, ["rna"], settle_seconds=60)
    # A clock that is ahead must not keep a file for ever.
    assert [one.name for one in found.files] == ["rna__ahead.npz", "rna__old.npz"]
    assert found.waiting == [("rna__new.npz", "it changed a moment ago")]


def test_what_cannot_be_read_waits_and_stops_nothing(tmp_path: Path) -> None:
    arrive(tmp_path, "rna__good.npz")
    (tmp_path / "rna__link.npz").symlink_to(tmp_path / "nowhere.npz")
    os.mkfifo(tmp_path / "rna__pipe.npz")
    group = tmp_path / "rna__x.zarr"
    group.mkdir()
    os.mkfifo(group / "c")
    found = list_inbox(tmp_path, ["rna"])
    assert [one.name for one in found.files] == ["rna__good.npz", "rna__x.zarr"]
    assert [name for name, _ in found.waiting] == ["rna__link.npz", "rna__pipe.npz"]
    assert "No such file" in dict(found.waiting)["rna__link.npz"]
    assert "neither a file" in dict(found.waiting)["rna__pipe.npz"]


def test_a_folder_is_known_by_all_that_is_in_it(tmp_path: Path) -> None:
    group = tmp_path / "rna__x.zarr"
    (group / "c").mkdir(parents=True)
    arrive(group / "c", "0", "one")
    before = digest(group)
    arrive(group / "c", "0", "two")
    assert digest(group) != before
    arrive(group / "c", "0", "one")
    assert digest(group) == before
    (group / "c" / "0").rename(group / "c" / "1")
    assert digest(group) != before


def test_names_that_are_taken(tmp_path: Path) -> None:
    def file(text: str) -> InboxFile:
        path = arrive(tmp_path, "rna__a.npz", text)
        return InboxFile(path, "rna", False, digest(path))

    for text in ("one", "two", "two", "one", "three"):
        put_away(tmp_path, Arrivals(took=[file(text)]))
    done = {path.name: path.read_text() for path in (tmp_path / "done").iterdir()}
    assert done == {"rna__a.npz": "one", "rna__a.2.npz": "two", "rna__a.3.npz": "three"}
    for text, why in (("bad", "first"), ("worse", "second")):
        put_away(tmp_path, Arrivals(refused=[(file(text), why)]))
    quarantine = {path.name: path.read_text() for path in (tmp_path / "quarantine").iterdir()}
    assert quarantine["rna__a.2.npz"] == "worse" and "second" in quarantine["rna__a.2.npz.reason.txt"]
    assert quarantine["rna__a.npz"] == "bad" and "first" in quarantine["rna__a.npz.reason.txt"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_half_an_archive_is_searched_as_bytes() -> None:
    leaving = Leaving(frozenset({"person17"}), frozenset())
    assert blob_names("rna__cut.npz", b"PK\x03\x04 'person17' and no more", leaving)
    assert not blob_names("rna__cut.npz", b"PK", leaving)
