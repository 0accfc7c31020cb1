"""Delimited text: headers, quotes, delimiters, missing words, and the two fast ways against the slow one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from sjd_dask.errors import DataError
from sjd_dask.store.ingest.sources import SourceOptions, numbers, open_source, text
from sjd_dask.store.ingest.sources import lines as lines_module


def read(path: Path, rows: str | None = None) -> tuple[list[str], list[str], np.ndarray]:
    with open_source(path, SourceOptions(rows=rows)) as source:  # type: ignore[arg-type]
        blocks = list(source.blocks())
    ids = [i for block in blocks for i in block.ids]
    return ids, source.minor_ids, np.concatenate([block.values for block in blocks])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "id\tS1\tS2\ncg1\t0.5\t1\ncg2\t2e-1\tNA\n"),
        ("empty_cell.csv", ",S1,S2\ncg1,0.5,1\ncg2,.2,\n"),
        ("quoted.csv", '"","S1","S2"\n"cg1",0.5,1\n"cg2",0.2,NaN\n'),
        ("all_quoted.csv", '"","S1","S2"\n"cg1","0.5","1"\n"cg2","0.2","NA"\n'),
        ("r_style.txt", '"S1" "S2"\n"cg1" 0.5 1\n"cg2" 0.2 NA\n'),
        ("r_tab.tsv", "S1\tS2\ncg1\t0.5\t1\ncg2\t0.2\tnull\n"),
        ("crlf.tsv", "id\tS1\tS2\r\ncg1\t0.5\t1\r\ncg2\t0.2\tN/A\r\n"),
        ("bom.csv", "\ufeffid,S1,S2\ncg1,0.5,1\ncg2,0.2,.\n"),
        ("semicolon.csv", "id;S1;S2\ncg1;0.5;1\ncg2;0.2;\n"),
        ("comma.tsv", "id,S1,S2\ncg1,0.5,1\ncg2,0.2,nan\n"),
        ("no_last_end.tsv", "id\tS1\tS2\ncg1\t0.5\t1\ncg2\t0.2\tNULL"),
        ("blank_end.tsv", "id\tS1\tS2\ncg1\t0.5\t1\ncg2\t0.2\tNA\n\n\n"),
        ("spaces.csv", "id, S1, S2\ncg1 , 0.5, 1\ncg2, +0.2,NA \n"),
    ],
)
def test_text_dialects_read_the_same(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    zipped = tmp_path / (name + ".gz")
    zipped.write_bytes(gzip.compress(content.encode()))
    for file in (path, zipped):
        features, samples, values = read(file)
        assert features == ["cg1", "cg2"]
        assert samples == ["S1", "S2"]
        np.testing.assert_array_equal(values, [[0.5, 1.0], [0.2, np.nan]])


def test_one_sample_and_samples_in_rows(tmp_path: Path) -> None:
    path = tmp_path / "one.tsv"
    path.write_text("S1\ncg1\t0.5\ncg2\t0.25\n")
    assert read(path)[:2] == (["cg1", "cg2"], ["S1"])
    path.write_text("id\tcg1\tcg2\nS1\t0.5\t0.25\n")
    samples, features, values = read(path, rows="samples")
    assert (samples, features, values.tolist()) == (["S1"], ["cg1", "cg2"], [[0.5, 0.25]])


def test_ids_keep_leading_zeros_and_any_script(tmp_path: Path) -> None:
    path = tmp_path / "ids.tsv"
    path.write_text('id\t01005\tSjögren\nIL-2,3\t1\t2\n"q ""x"""\t3\t4\n', encoding="utf-8")
    features, samples, values = read(path)
    assert samples == ["01005", "Sjögren"]
    assert features == ["IL-2,3", 'q "x"']
    assert values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "token",
    [
        "true",
        "0x10",
        "1,5",
        "2024-01-01",
        "1 000",
        "1_0",
        "inf",
        "-Infinity",
        "1e400",
        "-nan",
        "NAN",
        "na",
        "1e",
        "--1",
        "٣",
        "1.2.3",
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_not_a_number_is_refused_and_named(
    tmp_path: Path, token: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        monkeypatch.setattr(text, "COMPILE_AFTER", 0)
    path = tmp_path / "bad.tsv"
    path.write_text(f"id\tS1\tS2\ncg1\t0.5\t1\ncg2\t0.2\t{token}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "line 3, column 3" in message
    assert "'cg2'" in message and "'S2'" in message and repr(token) in message


@pytest.mark.parametrize("compiled", [False, True])
def test_fast_ways_agree_with_the_slow_one_to_the_last_bit(compiled: bool) -> None:
    rng = np.random.default_rng(5)
    tokens = [repr(float(v)) for v in rng.normal(size=300)]
    tokens += [f"{v:.17g}" for v in rng.normal(size=20) * 10.0 ** rng.integers(-300, 300, 20)]
    tokens += [f"{v:.{d}f}" for v, d in zip(rng.normal(size=60), rng.integers(0, 15, 60), strict=True)]
    tokens += [
        "0",
        "-0",
        "+1",
        "1.",
        ".5",
        "1e5",
        "1E-7",
        "5e-324",
        "1e-400",
        "123456789012345678901234567890",
        "00012",
    ]
    tokens += ["9007199254740993", "0.000000000000000000000000000001", *numbers.MISSING_TOKENS]
    tokens += ["1"] * (-len(tokens) % 8)
    rng.shuffle(tokens)
    rows = [tokens[i : i + 8] for i in range(0, len(tokens), 8)]
    block = "".join(f"f{i}\t" + "\t".join(r) + "\n" for i, r in enumerate(rows)).encode()
    ids = [f"S{i}" for i in range(8)]
    found = numbers.parse_block(block, 2, "\t", ids, ("feature", "sample"), Path("x"), compiled=compiled)
    slow = numbers._slow(block, 2, "\t", ids, ("feature", "sample"), Path("x"))
    assert found[0] == slow[0]
    assert found[1].tobytes() == slow[1].tobytes()
    if compiled:
        plain = [t for t in tokens if len(t) < 9]
        line = ("f\t" + "\t".join(plain) + "\n").encode()
        assert numbers.parse_digits(line, 9, len(plain), numbers._MISSING_PACKED) is not None


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("id\tS1\tS2\ncg1\t1\t2\ncg2\t1\n", ["line 3", "2 fields", "3"]),
        ("id\tS1\tS2\ncg1\t1\t2\ncg2\t1\t2\t3\n", ["line 3", "4 fields", "3"]),
        ("id\tS1\tS2\ncg1\t1\t2\n\ncg2\t1\t2\n", ["line 3", "empty"]),
        ('id\tS1\tS2\ncg1\t1\t2\n"cg2\t1\t2\n', ["line 3", "quoted"]),
        ("id\tS1\tS2\n", ["no values"]),
        ("\n1\t2\n", ["first line is empty"]),
        ("just text\nwithout\n", ["delimiter"]),
        ("id\tS1\rcg1\t1\r", ["carriage return"]),
        ("id;S1\ncg1;0,5\ncg2;0,2\n", ["line 2", "'S1'", "'0,5'", "decimal point"]),
        ("feature_id\tS1\tS2\ncg1\t1\t2\t\ncg2\t1\t2\t\n", ["line 2", "4 fields", "3"]),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_broken_lines_are_named(
    tmp_path: Path, content: str, parts: list[str], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        monkeypatch.setattr(text, "COMPILE_AFTER", 0)
    path = tmp_path / "broken.tsv"
    path.write_bytes(content.encode())
    with pytest.raises(DataError) as caught:
        read(path)
    for part in parts:
        assert part in str(caught.value)


def test_not_utf8_names_line_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin.tsv"
    path.write_bytes(b"id\tS1\ncg1\t1\nSj\xf6gren\t2\n")
    with pytest.raises(DataError, match=r"line 3 is not UTF-8.*0xf6 at offset 14\b"):
        read(path)
    path.write_bytes("id\tS1\ncg1\t1\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        read(path)


def test_damaged_or_foreign_compression(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    body = "id\tS1\n" + "".join(f"cg{i}\t{v}\n" for i, v in enumerate(rng.random(20000)))
    whole = gzip.compress(body.encode())
    path = tmp_path / "cut.tsv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        read(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(DataError, match="truncated"):
        read(path)
    path.write_bytes(whole[:200] + b"\0" * 50 + whole[250:])
    with pytest.raises(DataError, match=r"damaged|UTF-8|number|fields"):
        read(path)
    path.write_bytes(b"BZh91AY")
    with pytest.raises(DataError, match="bzip2"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        read(path)
    # Several gzip members are one text.
    path.write_bytes(gzip.compress(b"id\tS1\n") + gzip.compress(b"cg1\t1\n"))
    assert read(path)[0] == ["cg1"]


def test_blocks_do_not_depend_on_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values = np.round(rng.random((200, 7)), 4)
    path = tmp_path / "m.tsv"
    path.write_text(
        "id\t"
        + "\t".join("ABCDEFG")
        + "\n"
        + "".join(f"f{i}\t" + "\t".join(map(str, r)) + "\n" for i, r in enumerate(values))
    )
    for size in (1, 17, 100, 4096):
        monkeypatch.setattr(lines_module, "TEXT_BLOCK", size)
        monkeypatch.setattr(lines_module, "_READ", size)
        ids, _, found = read(path)
        assert ids == [f"f{i}" for i in range(200)]
        np.testing.assert_array_equal(found, values)


def test_line_numbers_survive_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "TEXT_BLOCK", 50)
    monkeypatch.setattr(lines_module, "_READ", 20)
    path = tmp_path / "m.tsv"
    rows = [f"f{i}\t1\t2" for i in range(99)]
    rows[70] = "f70\t1\tx"
    path.write_text("id\tA\tB\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"line 72, column 3: feature 'f70', sample 'B': 'x'"):
        read(path)
