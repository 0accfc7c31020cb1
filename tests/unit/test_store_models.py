"""Bundles and the registry of models."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from store_helpers import folder_as_bucket

from sjd_dask.errors import DataError, SjdError, SpecError
from sjd_dask.store.bundle import MANIFEST, bundle_hash, read_bundle, write_bundle
from sjd_dask.store.catalogue.results import BundleFile, file_from_json, file_to_json
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.files import Files
from sjd_dask.store.gc import gc
from sjd_dask.store.result import Result
from sjd_dask.store.verify import verify

BLOBS = {"model.skops": b"\x00\x01", "classifier.json": b"{}", "chain/step0.npz": b"arrays"}
FACTS = {"platform": {"quantity": "counts", "n_features": 3}, "classes": ["a", "b"]}
PANEL = pa.table({"feature_id": ["f0", "f1"], "weight": [0.5, -0.25]})


def publish(cohort: Cohort, name: str = "blood", weight: bytes = b"\x00\x01") -> Result:
    bundle = write_bundle(cohort.files, {**BLOBS, "model.skops": weight}, FACTS)
    return cohort.publish_model(name, bundle, {"table": PANEL}, {"model": "multinomial"})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "c")


def test_a_bundle_comes_back_and_its_hash_is_its_content(files: Files) -> None:
    first, second = write_bundle(files, BLOBS, FACTS), write_bundle(files, dict(reversed(BLOBS.items())), FACTS)
    assert first.path != second.path and first.hash == second.hash == bundle_hash(BLOBS, FACTS)
    assert read_bundle(files, first) == (BLOBS, FACTS)
    assert write_bundle(files, {**BLOBS, "classifier.json": b"{ }"}, FACTS).hash != first.hash
    assert write_bundle(files, BLOBS, {**FACTS, "classes": ["a"]}).hash != first.hash
    assert first.n_bytes == sum(entry.size for entry in files.walk(first.path))
    assert file_from_json(json.loads(json.dumps(file_to_json(first)))) == first


@pytest.mark.parametrize(
    ("name", "blob", "said"),
    [
        ("model.skops", b"\x00\x02", "model.skops changed: its hash"),
        ("model.skops", b"\x00", "model.skops changed: it has 1 bytes instead of 2"),
        ("chain/step0.npz", None, "chain/step0.npz is lost"),
        ("chain/step1.npz", b"more", "chain/step1.npz was added"),
        ("facts.json", b"{}", "facts.json changed"),
        (MANIFEST, None, "manifest.json is lost"),
        (MANIFEST, b"{}", "manifest.json changed"),
    ],
)
def test_a_bundle_that_was_touched_is_refused_by_name(files: Files, name: str, blob: bytes | None, said: str) -> None:
    bundle = write_bundle(files, BLOBS, FACTS)
    path = f"{bundle.path}/{name}"
    if blob is None:
        files.delete(path)
    else:
        files.write_bytes(path, blob)
    with pytest.raises(DataError, match="not the one that was published") as caught:
        read_bundle(files, bundle)
    assert said in str(caught.value)


@pytest.mark.parametrize("change", [("kind", "pickle", "unknown kind 'pickle'"), ("format", 2, "formats up to 1")])
def test_a_bundle_of_a_newer_package(files: Files, change: tuple[str, object, str]) -> None:
    """A manifest that is the published one, and names what this version does not know."""
    from hashlib import blake2b

    bundle = write_bundle(files, BLOBS, FACTS)
    manifest = json.loads(files.read_bytes(f"{bundle.path}/{MANIFEST}"))
    (manifest["files"]["model.skops"] if change[0] == "kind" else manifest)[change[0]] = change[1]
    blob = json.dumps(manifest).encode()
    files.write_bytes(f"{bundle.path}/{MANIFEST}", blob)
    newer = BundleFile(bundle.path, bundle.n_bytes, blake2b(blob, digest_size=16).hexdigest())
    with pytest.raises(DataError, match=change[2]):
        read_bundle(files, newer)


@pytest.mark.parametrize("name", ["model.pkl", "../model.json", "manifest.json", "/model.json", ".model.json"])
def test_names_no_bundle_takes(files: Files, name: str) -> None:
    with pytest.raises(SpecError, match="cannot be the name"):
        write_bundle(files, {name: b""}, {})
    with pytest.raises(SpecError, match="plain data"):
        write_bundle(files, {}, {"x": float("nan")})
    assert list(files.walk("models")) == []


def test_the_registry(cohort: Cohort) -> None:
    with pytest.raises(SpecError, match="no model 'blood'; list the models"):
        cohort.find_model("blood")
    first, second = publish(cohort), publish(cohort, weight=b"\x00\x02")
    assert [first.ref, second.ref] == ["models/blood@1", "models/blood@2"]
    for said in ("blood", "blood@production", "models/blood@production"):
        with pytest.raises(SpecError, match=r"no version of model 'blood' is in production.*promote COHORT blood@2"):
            cohort.find_model(said)
    assert cohort.find_model("blood@1").ref == cohort.find_model("models/blood@1").ref == "models/blood@1"
    with pytest.raises(SpecError, match=r"no model blood@3; it has: models/blood@1, models/blood@2"):
        cohort.promote("blood", 3)
    before = cohort.snapshot()
    assert cohort.promote("blood", 1, "first", "ann") == before + 1
    assert cohort.promote("blood", 1, "again", "bob") is None and cohort.snapshot() == before + 1
    assert cohort.promote("blood", 2, "better", "bob") == before + 2
    assert cohort.find_model("blood").ref == "models/blood@2"
    assert cohort.find_model("blood", snapshot=before + 1).ref == "models/blood@1"
    assert cohort.result("models/blood@production").ref == "models/blood@2"
    listed = {one.ref: one for one in cohort.models()}
    assert [one.is_production for one in listed.values()] == [False, True]
    held = listed["models/blood@2"]
    assert (held.promoted_by, held.promoted_why, held.hash) == ("bob", "better", second.bundle.hash)
    assert not held.needs_retraining
    assert read_bundle(cohort.files, cohort.find_model("blood").bundle)[0]["model.skops"] == b"\x00\x02"
    with pytest.raises(SpecError, match="'bundle' of models/blood@2 is a bundle, not a table"):
        cohort.result("models/blood").table("bundle")
    assert cohort.log()[-1]["message"] == "blood@2 promoted to production (before: blood@1): better"


def test_going_back_goes_down_what_was_promoted(cohort: Cohort) -> None:
    for weight in (b"1", b"2", b"3"):
        publish(cohort, weight=weight)
    with pytest.raises(SpecError, match="no version of model 'blood' was ever promoted"):
        cohort.rollback_model("blood")
    for version in (1, 2, 3):
        cohort.promote("blood", version)
    assert cohort.rollback_model("blood", "worse")[0] == 2
    assert cohort.rollback_model("blood")[0] == 1
    with pytest.raises(SpecError, match="blood@1 is the first that was promoted"):
        cohort.rollback_model("blood")
    cohort.promote("blood", 3)
    assert cohort.rollback_model("blood")[0] == 1
    cohort.demote("blood", "unsafe")
    with pytest.raises(SpecError, match="in production"):
        cohort.demote("blood")
    assert cohort.rollback_model("blood")[0] == 1
    assert [one.version for one in cohort.promotions("blood")] == [1, 2, 3, 2, 1, 3, 1, 1]


def test_verify_and_gc_know_bundles(cohort: Cohort) -> None:
    kept, loose = publish(cohort).bundle, write_bundle(cohort.files, BLOBS, FACTS)
    report = verify(cohort)
    assert report.n_tables == 1 and report.n_bundles == 1
    done = gc(cohort, grace_hours=0)
    assert [(one.kind, one.path, one.n_bytes) for one in done.items] == [("bundle", loose.path, loose.n_bytes)]
    assert cohort.files.exists(kept.path) and not cohort.files.exists(loose.path)
    cohort.files.write_bytes(f"{kept.path}/classifier.json", b"[]")
    with pytest.raises(DataError, match=r"models/blood@1, bundle .*classifier.json changed"):
        verify(open_cohort(cohort.path))


def test_models_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = folder_as_bucket(monkeypatch, tmp_path / "objects")
    cohort = create_cohort(tmp_path / "home", data=url)
    bundle = publish(cohort).bundle
    loose = write_bundle(cohort.files, BLOBS, FACTS)
    assert read_bundle(cohort.files, bundle) == (BLOBS, FACTS)
    assert verify(cohort).n_bundles == 1
    gc(cohort, grace_hours=0)
    with pytest.raises(DataError, match=r"manifest.json is lost"):
        read_bundle(cohort.files, loose)
    cohort.files.delete(f"{bundle.path}/chain/step0.npz")
    with pytest.raises(DataError, match=r"chain/step0.npz is lost"):
        read_bundle(cohort.files, bundle)


def test_a_bundle_is_whole_or_not_there(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle leaves nothing, and what was not finished is never published."""
    wrote = Files.write_bytes

    def fail(self: Files, path: str, content: bytes, **options: bool) -> None:
        if path.endswith("facts.json"):
            raise OSError(28, "No space left on device")
        wrote(self, path, content, **options)

    monkeypatch.setattr(Files, "write_bytes", fail)
    with pytest.raises(SjdError, match="the model was not published"):
        write_bundle(files, BLOBS, FACTS)
    assert list(files.walk()) == []


def test_a_bundle_that_went_is_not_published(cohort: Cohort) -> None:
    bundle = write_bundle(cohort.files, BLOBS, FACTS)
    cohort.files.delete(f"{bundle.path}/{MANIFEST}")
    with pytest.raises(DataError, match=r"manifest.json is lost; nothing was published"):
        cohort.publish_model("blood", bundle, {}, {})
    assert cohort.models() == [] and cohort.snapshot() == 0
