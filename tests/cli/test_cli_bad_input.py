"""Bad input: the exit code, and a message that names the offender. Nothing is half published."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sjd_dask.store.cohort import open_cohort

from .conftest import Sjd, check_refused


def _matrix(rows: str) -> bytes:
    return f"feature_id\tS1\tS2\n{rows}".encode()


GOOD = "cg1\t0.1\t0.2\ncg2\t0.3\t0.4\n"

CASES = {
    "ragged": (_matrix("cg1\t0.1\t0.2\ncg2\t0.3\n"), ["line 3"]),
    "duplicate_feature": (_matrix("cg1\t0.1\t0.2\ncg1\t0.3\t0.4\n"), ["cg1"]),
    "duplicate_sample": (b"feature_id\tS1\tS1\ncg1\t0.1\t0.2\n", ["S1"]),
    "text_in_numbers": (_matrix("cg1\t0.1\tlow\n"), ["line 2", "S2", "low"]),
    "beta_above_one": (_matrix("cg1\t0.1\t1.2\n"), ["cg1", "S2", "1.2"]),
    "beta_below_zero": (_matrix("cg1\t-0.1\t0.2\n"), ["cg1", "S1", "-0.1"]),
    "empty_file": (b"", ["empty"]),
    "header_only": (b"feature_id\tS1\tS2\n", ["header"]),
    "not_utf8": (b"feature_id\tS1\tS2\ncg\xff1\t0.1\t0.2\n", ["UTF-8"]),
    "empty_id": (_matrix("\t0.1\t0.2\n"), ["empty"]),
    "infinite": (_matrix("cg1\tinf\t0.2\n"), ["S1"]),
    "all_missing_sample": (_matrix("cg1\tNA\t0.2\ncg2\tNA\t0.3\n"), ["S1"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_matrix_is_refused_by_name(name: str, tmp_path: Path, sjd: Sjd) -> None:
    content, words = CASES[name]
    (tmp_path / "m.tsv").write_bytes(content)
    cohort = tmp_path / "cohort"
    assert sjd("init", cohort).code == 0
    done = sjd("ingest", cohort, "meth", tmp_path / "m.tsv", "--quantity", "beta", "-q")
    assert done.code == 3, done.err
    for word in ["m.tsv", *words]:
        assert word in done.err
    opened = open_cohort(cohort)
    assert opened.assays() == []
    assert opened.snapshot() == 0
    assert not [path for path in (cohort / "segments").rglob("*") if path.is_file()]


def test_truncated_gzip(tmp_path: Path, sjd: Sjd) -> None:
    whole = gzip.compress(_matrix("".join(f"cg{i}\t0.{i:04d}\t0.2\n" for i in range(5000))))
    (tmp_path / "m.tsv.gz").write_bytes(whole[: len(whole) // 2])
    sjd("init", tmp_path / "cohort")
    done = sjd("ingest", tmp_path / "cohort", "meth", tmp_path / "m.tsv.gz", "--quantity", "beta", "-q")
    assert done.code == 3
    assert "m.tsv.gz" in done.err and "gzip" in done.err
    assert open_cohort(tmp_path / "cohort").assays() == []


def test_sheet_without_a_match(tables: Path, sjd: Sjd) -> None:
    (tables / "other.csv").write_text("sample_id,age\nnobody,3\n", encoding="utf-8")
    sjd("init", tables / "c2")
    done = sjd(
        "ingest",
        tables / "c2",
        "meth",
        tables / "betas.tsv",
        "--quantity",
        "beta",
        "--samples",
        tables / "other.csv",
        "-q",
    )
    assert done.code == 3
    assert "other.csv" in done.err or "nobody" in done.err
    assert open_cohort(tables / "c2").assays() == []


def test_one_sample_can_be_stored_but_not_tested(tmp_path: Path, sjd: Sjd) -> None:
    (tmp_path / "m.tsv").write_text("feature_id\tS1\ncg1\t0.1\ncg2\t0.5\n", encoding="utf-8")
    (tmp_path / "s.csv").write_text("sample_id,age\nS1,30\n", encoding="utf-8")
    sjd("init", tmp_path / "cohort")
    stored = sjd(
        "ingest",
        tmp_path / "cohort",
        "meth",
        tmp_path / "m.tsv",
        "--quantity",
        "beta",
        "--samples",
        tmp_path / "s.csv",
        "-q",
    )
    assert stored.code == 0, stored.err
    (tmp_path / "s.yaml").write_text(
        "job: associate\ncohort: cohort\nassay: meth\ndesign: '~ age'\noutput: x\n", encoding="utf-8"
    )
    done = sjd("run", tmp_path / "s.yaml", "-q")
    assert done.code == 2
    assert "1 samples" in done.err or "rank" in done.err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"desing": "~ age"}, 2, ["desing", "design"]),
        ({"design": "~ disease + nope"}, 2, ["nope"]),
        ({"design": "~ disease + agee"}, 2, ["agee", "age"]),
        ({"assay": "../meth"}, 2, ["../meth"]),
        ({"output": "../x"}, 2, ["../x"]),
        ({"assay": "other"}, 2, ["other", "meth"]),
        ({"contrasts": "[disease]"}, 2, ["disease[T.patient]"]),
        ({"samples": "visit == 9"}, 2, ["visit == 9"]),
        ({"samples": "nope == 1"}, 2, ["nope"]),
        ({"quantity": "counts"}, 2, ["counts", "beta"]),
        ({"block": "nope"}, 2, ["nope", "person_id"]),
        ({"trend": "yes", "moderation": "none"}, 2, ["moderation"]),
        ({"test": "wilcoxon"}, 2, ["contrasts"]),
        ({"job": "dream"}, 2, ["dream", "associate"]),
        ({"design": "~ __import__('os').system('true')"}, 2, ["formula"]),
        ({"samples": "disease == 'patient'"}, 2, ["disease", "patient"]),
        ({"design": "~ disease + C(person_id)"}, 2, ["rank", "person_id"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_spec_is_refused_by_name(
    change: dict[str, str], code: int, words: list[str], cohort: Path, spec: Path, sjd: Sjd
) -> None:
    sets = [item for key, value in change.items() for item in ("--set", f"{key}={value}")]
    done = sjd("run", spec, *sets, "-q")
    assert done.code == code, done.err
    for word in words:
        assert word in done.err
    assert open_cohort(cohort).results() == []


def test_usage_errors_exit_2(tmp_path: Path, sjd: Sjd) -> None:
    assert sjd("nonsense").code == 2
    assert sjd("ingest", tmp_path).code == 2
    missing = sjd("run", tmp_path / "none.yaml")
    assert missing.code == 2 and "none.yaml" in missing.err
    (tmp_path / "bad.yaml").write_text("a: [1\n", encoding="utf-8")
    assert sjd("run", tmp_path / "bad.yaml").code == 2


def test_name_outside_the_cohort_is_refused(tables: Path, sjd: Sjd) -> None:
    sjd("init", tables / "c2")
    done = sjd("ingest", tables / "c2", "../evil", tables / "betas.tsv", "--quantity", "beta", "-q")
    assert done.code == 2
    assert "../evil" in done.err
    assert not (tables / "evil").exists()


def test_unknown_quantity_is_refused(tables: Path, sjd: Sjd) -> None:
    sjd("init", tables / "c2")
    done = sjd("ingest", tables / "c2", "meth", tables / "betas.tsv", "--quantity", "betas", "-q")
    assert done.code == 2
    assert "betas" in done.err


def test_no_cohort_there(tmp_path: Path, sjd: Sjd) -> None:
    done = sjd("info", tmp_path / "nothing")
    assert done.code in (2, 3)
    assert "nothing" in done.err


def test_unreachable_cluster_is_named(spec: Path, sjd: Sjd) -> None:
    done = sjd("run", spec, "--cluster", "tcp://127.0.0.1:9", "-q")
    assert done.code not in (0, 5)
    assert "127.0.0.1:9" in done.err


def test_plan_that_does_not_fit_is_refused(cohort: Path, spec: Path, tmp_path: Path, sjd: Sjd) -> None:
    (tmp_path / "tiny.yaml").write_text("kind: local\nworkers: 1\nmemory: 100MB\n", encoding="utf-8")
    done = sjd("run", spec, "--cluster", tmp_path / "tiny.yaml", "-q")
    assert done.code == 4, done.err
    assert "MB" in done.err


def test_a_place_that_cannot_be_written_is_named(cohort: Path, spec: Path, sjd: Sjd) -> None:
    assert sjd("run", spec).code == 0
    for command in ("report", "export"):
        target = cohort / "none" / {"report": "a.html", "export": "a.tsv"}[command]
        done = sjd(command, cohort, "associations/ewas", target)
        check_refused(done, 1, ["none/a.", "No such file"])


def test_what_storage_refuses_is_one_line(sjd: Sjd, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(cluster: str | None) -> None:
        raise PermissionError(13, "Permission denied", "/etc/dask")

    monkeypatch.setattr("sjd_dask.jobs.doctor.examine", refuse)
    check_refused(sjd("doctor"), 1, ["Permission denied", "/etc/dask"])
