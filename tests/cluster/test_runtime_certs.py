"""Certificates of `sjd certs`: a cluster takes those of its own authority, and nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sjd_dask.cli import main
from sjd_dask.errors import SjdError
from sjd_dask.runtime import cluster as cluster_module
from sjd_dask.runtime.cluster import open_cluster


def make(folder: Path, *options: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["certs", str(folder), *options])
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certs"
    make(folder)
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """A scheduler and a worker that know only the configuration that was made for them."""
    file = place.parent / "scheduler.json"
    environment = os.environ | {"DASK_CONFIG": str(place / "dask.yaml")}
    started = []

    def start(module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *arguments]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        start("dask_scheduler", "--port", "0", "--protocol", "tls", "--scheduler-file", str(file))
        deadline = time.monotonic() + 120
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = json.loads(file.read_text())["address"]
        start("dask_worker", found, "--no-nanny", "--nthreads", "1", "--local-directory", str(place.parent))
        yield found
    finally:
        for process in started:
            process.kill()
            process.wait()


def cluster_file(folder: Path, address: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(path.read_text().replace("tls://SCHEDULER:8786", address))
    return path


def test_own_certificates_run_tasks(place: Path, address: str) -> None:
    assert address.startswith("tls://")
    with open_cluster(cluster_file(place, address)) as cluster:
        assert cluster.client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_certificates_of_another_authority_are_refused(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 3.0)
    make(tmp_path / "other")
    with pytest.raises(SjdError, match="no Dask scheduler answers"):
        open_cluster(cluster_file(tmp_path / "other", address))
    with pytest.raises(SjdError, match="no Dask scheduler answers"):
        open_cluster(address.replace("tls://", "tcp://"))


def test_keys_are_private_and_nothing_is_overwritten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = sorted(place.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "client.key", "scheduler.key", "worker.key"]
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)
    before = keys[0].read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["certs", str(place)])
    assert ended.value.code == 2 and "not overwritten" in capsys.readouterr().err
    assert keys[0].read_bytes() == before


def test_what_a_certificate_says(tmp_path: Path) -> None:
    from cryptography import x509

    make(tmp_path / "new", "--host", "node7.example", "--host", "10.0.0.7", "--days", "30")
    signed = x509.load_pem_x509_certificate((tmp_path / "new" / "scheduler.pem").read_bytes())
    root = x509.load_pem_x509_certificate((tmp_path / "new" / "ca.pem").read_bytes())
    signed.verify_directly_issued_by(root)
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "node7.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert (signed.not_valid_after_utc - signed.not_valid_before_utc).days == 30
