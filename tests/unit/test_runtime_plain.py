"""The parts of the runtime that need no cluster: limits, fingerprints, plans, parts, events, errors."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask import errors
from sjd_dask.runtime import events
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.limits import available_cpus, memory_limit
from sjd_dask.runtime.parts import PartStore, decode_part, encode_part
from sjd_dask.runtime.plan import (
    Partition,
    Plan,
    calibrate,
    duration,
    estimate_seconds,
    feature_partitions,
    size,
)
from sjd_dask.store.files import Files


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class TestLimits:
    def test_nested_v2_group_binds(self, tmp_path: Path) -> None:
        _write(tmp_path / "proc/self/cgroup", "0::/outer/inner\n")
        _write(tmp_path / "sys/fs/cgroup/outer/memory.max", "300000000\n")
        _write(tmp_path / "sys/fs/cgroup/outer/inner/memory.max", "max\n")
        _write(tmp_path / "sys/fs/cgroup/outer/inner/cpu.max", "150000 100000\n")
        assert memory_limit(tmp_path) == 300_000_000
        assert available_cpus(tmp_path) == 1

    def test_v1_group_seen_from_inside_a_container(self, tmp_path: Path) -> None:
        # The path in /proc is the host's; only the mount's root exists.
        _write(tmp_path / "proc/self/cgroup", "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
        _write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "400000000\n")
        _write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
        _write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
        assert memory_limit(tmp_path) == 400_000_000
        assert available_cpus(tmp_path) == 1

    def test_no_limit_gives_the_machine(self, tmp_path: Path) -> None:
        _write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        assert memory_limit(tmp_path) > 400_000_000
        assert available_cpus(tmp_path) >= 1


class TestFingerprint:
    def test_order_of_keys_and_container_kind_do_not_matter(self) -> None:
        assert fingerprint({"a": [1, 2], "b": {3, 4}}) == fingerprint({"b": {4, 3}, "a": (1, 2)})

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (1, 1.0),
            (1, True),
            (1, "1"),
            (b"1", "1"),
            (None, 0),
            (["ab", "c"], ["a", "bc"]),
            ([[1], 2], [1, [2]]),
            ([1, 2], [2, 1]),
            (0.1, float(np.float32(0.1))),
            (np.zeros(2, "f4"), np.zeros(2, "f8")),
            (np.zeros((2, 3)), np.zeros((3, 2))),
            ({"a": None}, {}),
            (dt.date(2026, 1, 1), "2026-01-01"),
        ],
    )
    def test_different_values_differ(self, left: object, right: object) -> None:
        assert fingerprint(left) != fingerprint(right)

    def test_equal_arrays_in_other_memory_orders_agree(self) -> None:
        array = np.arange(12.0).reshape(3, 4)
        assert fingerprint(array) == fingerprint(np.asfortranarray(array)) == fingerprint(array.astype(">f8"))
        assert fingerprint(array[:, ::2]) == fingerprint(array[:, ::2].copy())

    def test_strings_of_any_array_kind_agree(self) -> None:
        words = ["01005", "b"]
        assert (
            fingerprint(np.array(words)) == fingerprint(np.array(words, dtype=object)) == fingerprint(pd.Index(words))
        )

    def test_scalars(self) -> None:
        assert fingerprint(np.float64(0.5)) == fingerprint(0.5)
        assert fingerprint(float("nan")) == fingerprint(-float("nan"))
        assert fingerprint(-0.0) == fingerprint(0.0)

    def test_value_is_fixed(self) -> None:
        # A change of this value would make every published run look new.
        assert fingerprint({"job": "associate", "k": [1, 2.5, None, True]}) == "cf3fe02b113b3453ae35cf3b6c4ad06b"

    def test_what_has_no_canonical_form_is_refused_by_place(self) -> None:
        with pytest.raises(TypeError, match=r"\$\.a\[1\] is a builtins\.object"):
            fingerprint({"a": [1, object()]})


class TestPlan:
    def test_stripes_cover_without_gaps_on_chunk_borders(self) -> None:
        for n, width, unit in [(100, 30, 1), (850_000, 65_536, 16_384), (10, 100, 16), (16_385, 16_384, 16_384)]:
            stripes = feature_partitions(n, width, unit)
            assert stripes[0].feature_start == 0
            assert stripes[-1].feature_stop == n
            assert all(a.feature_stop == b.feature_start for a, b in itertools.pairwise(stripes))
            assert all(stripe.feature_start % unit == 0 for stripe in stripes)
            assert all(0 < stripe.n_features <= width for stripe in stripes)
            assert [stripe.index for stripe in stripes] == list(range(len(stripes)))

    def test_stripe_narrower_than_a_chunk(self) -> None:
        assert [stripe.n_features for stripe in feature_partitions(10, 4, 8)] == [3, 3, 4]

    @staticmethod
    def plan(**changes: object) -> Plan:
        values: dict[str, object] = {
            "job": "associate", "output": "ewas", "partitions": feature_partitions(100, 30), "bytes_in": 2_000_000,
            "bytes_out": 5000, "peak_bytes_per_task": 300_000_000, "driver_bytes": 1000, "n_workers": 2,
            "memory_per_worker": 1_000_000_000, "estimated_seconds": 90.0, "notes": ["a note"],
        }  # fmt: skip
        return Plan(**(values | changes))  # type: ignore[arg-type]

    def test_render_and_json_round_trip(self) -> None:
        plan = self.plan()
        text = plan.render()
        for expected in ("associate", "4, up to 25", "2.0 MB", "300 MB", "about 90 s", "a note"):
            assert expected in text
        assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
        assert plan.table().row_count == len(text.splitlines())
        plan.check(max_seconds=100, driver_limit=10_000)

    def test_refusals_name_numbers_and_remedy(self) -> None:
        with pytest.raises(errors.PlanRefused, match=r"needs about 900 MB.* may use 800 MB.*at least 1\.1 GB"):
            self.plan(peak_bytes_per_task=900_000_000).check()
        with pytest.raises(errors.PlanRefused, match=r"the driver, which may use 800 B"):
            self.plan().check(driver_limit=1000)
        with pytest.raises(errors.PlanRefused, match=r"about 90 s on 2 workers, and 30 s were allowed"):
            self.plan().check(max_seconds=30)

    def test_time(self) -> None:
        calls: list[int] = []
        assert calibrate(lambda: calls.append(1), budget=0.05, repeats=3) >= 0
        assert len(calls) == 4
        assert estimate_seconds(1.0, 5, 2) == pytest.approx(3.0, abs=0.1)
        assert [duration(x) for x in (1.25, 59, 600, 9000)] == ["1.2 s", "59 s", "10 min", "2.5 h"]
        assert [size(x) for x in (5, 1500, 2e9, 3e12)] == ["5 B", "1.5 kB", "2.0 GB", "3.0 TB"]


TABLE = pa.table({"x": [1.5, None, 3.0], "name": ["a", "b", "c"]})


class TestParts:
    def test_round_trip(self, tmp_path: Path) -> None:
        store = pickle.loads(pickle.dumps(PartStore(Files(tmp_path), "r", 1)))  # noqa: S301 - as a task gets it
        first, second = Partition(0, 0, 3), Partition(1, 3, 6, {"trait": "age"})
        assert store.done([first, second]) == set()
        assert store.write(first, TABLE) > 100
        store.write(second, {"n": 3, "names": ["a"]})
        assert store.done([first, second]) == {0, 1}
        assert store.read(first) == TABLE
        assert store.read_json(second) == {"n": 3, "names": ["a"]}
        assert [table.num_rows for table in store.tables([first, second])] == [3, 1]
        with pytest.raises(errors.DataError, match="is a table"):
            store.read_json(first)
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]

    def test_schema_metadata_survives(self) -> None:
        table = TABLE.replace_schema_metadata({"key": "value"})
        again = decode_part(encode_part(Partition(0, 0, 3), table), Partition(0, 0, 3))
        assert again.schema.metadata == {b"key": b"value"}

    def test_earlier_attempts_count_and_the_newest_wins(self, tmp_path: Path) -> None:
        partition = Partition(0, 0, 3)
        PartStore(Files(tmp_path), "r", 1).write(partition, {"attempt": 1})
        later = PartStore(Files(tmp_path), "r", 3)
        assert later.done([partition]) == {0}
        assert later.read_json(partition) == {"attempt": 1}
        later.write(partition, {"attempt": 3})
        assert later.read_json(partition) == {"attempt": 1} or later.done([partition]) == {0}
        later.done([partition])
        assert later.read_json(partition) == {"attempt": 3}
        later.delete()
        assert PartStore(Files(tmp_path), "r", 3).done([partition]) == set()

    def test_every_truncation_and_flip_is_noticed(self, tmp_path: Path) -> None:
        partition = Partition(0, 0, 3)
        whole = encode_part(partition, TABLE)
        for cut in range(0, len(whole), 37):
            with pytest.raises(errors.DataError):
                decode_part(whole[:cut], partition)
        for place in range(0, len(whole), 37):
            broken = bytearray(whole)
            broken[place] ^= 1
            with pytest.raises(errors.DataError):
                decode_part(bytes(broken), partition)

    def test_broken_or_foreign_part_is_told_and_not_done(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        store = PartStore(files, "r", 2)
        wanted = [Partition(0, 0, 3), Partition(1, 3, 6), Partition(2, 6, 9, {"k": 2})]
        store.write(wanted[0], TABLE)
        (tmp_path / store.path(0)).write_bytes((tmp_path / store.path(0)).read_bytes()[:-5])
        store.write(Partition(1, 3, 7), TABLE)
        PartStore(files, "r", 1).write(Partition(2, 6, 9, {"k": 1}), TABLE)
        recorder = events.Recorder()
        assert store.done(wanted, recorder) == set()
        told = recorder.of(events.PartInvalid)
        assert [event.index for event in told] == [0, 1, 2]
        assert "truncated" in told[0].reason
        assert "features 3 to 6 of another plan" in told[1].reason
        with pytest.raises(errors.DataError, match="no whole part of partition 0"):
            store.read(wanted[0])

    def test_other_payloads_are_refused(self) -> None:
        with pytest.raises(TypeError, match=r"pyarrow\.Table or a mapping"):
            encode_part(Partition(0, 0, 1), [1, 2])  # type: ignore[arg-type]


class TestEvents:
    @staticmethod
    def story() -> list[events.Event]:
        done = [events.PartitionDone(i, 0.1, 10, 100, 10**8, "tcp://w:1", i + 1, 100) for i in range(100)]
        return [
            events.RunStarted(100, 0, 2, 6),
            events.PartInvalid(3, "runs/r/1/parts/3.arrow", "it is truncated"),
            *done[:50],
            events.WorkerLost("tcp://w:1", 1),
            events.PartitionRetried(7, "its worker was lost", "tcp://w:1"),
            events.WorkerJoined("tcp://w:2", 2),
            events.Message("odd", "warning"),
            *done[50:],
            events.RunFinished(100, 0, 12.0, 10**8),
        ]

    def test_plain_log_speaks_every_tenth_and_at_once_for_trouble(self) -> None:
        stream = io.StringIO()
        log = events.PlainLog(stream)
        for event in self.story():
            log(event)
        lines = stream.getvalue().splitlines()
        assert len([line for line in lines if " of 100 partitions," in line]) == 11
        assert "100 partitions, 2 workers" in lines[0]
        for expected in ("warning: worker tcp://w:1 was lost; 1 left", "partition 7 is computed again", "warning: odd"):
            assert any(expected in line for line in lines)
        assert "done in 12.0 s" in lines[-1]

    def test_bar_runs_on_any_stream(self) -> None:
        stream = io.StringIO()
        bar = events.ProgressBar(stream)
        for event in self.story():
            bar(event)
        bar(events.RunFailed("why", 3, 4))
        bar.close()
        assert "was lost" in stream.getvalue()
        assert "100/100" in stream.getvalue()

    def test_choice_of_listener(self) -> None:
        assert events.progress(quiet=True) is None
        assert isinstance(events.progress(stream=io.StringIO()), events.PlainLog)

    def test_json_log(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "log.jsonl"
        recorder = events.Recorder()
        with events.JsonLog(path) as log:
            tell = events.broadcast([log, None, recorder])
            for event in self.story():
                tell(event)
        tell(events.RunStopping("late"))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) == len(self.story())
        assert lines[0]["event"] == "RunStarted"
        assert {"time", "index", "worker"} <= lines[2].keys()
        assert recorder.events[-1] == events.RunStopping("late")
        assert [events.describe(event) is None for event in self.story()].count(True) == 100
        assert events.describe(events.RunStopping("x")) == "stopping: x"


@pytest.mark.parametrize(
    "error",
    [
        errors.DataError("a chunk is gone"),
        errors.MissingDependency("zarrs", "fast", "reading"),
        errors.FormatVersionError(3, 2),
        errors.Busy("held"),
    ],
)
def test_errors_survive_the_way_between_processes(error: errors.SjdError) -> None:
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what distributed does
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__
    assert again.exit_code == error.exit_code
