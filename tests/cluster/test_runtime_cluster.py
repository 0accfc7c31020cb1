"""Opening clusters: local processes, a scheduler elsewhere, cluster files, and what is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import threadpoolctl

from sjd_dask.errors import Interrupted, MissingDependency, SjdError, SpecError
from sjd_dask.runtime import cluster as cluster_module
from sjd_dask.runtime.cluster import open_cluster
from sjd_dask.runtime.kubernetes import kubernetes_arguments, start_kubernetes
from sjd_dask.runtime.slurm import slurm_job_script, start_slurm
from sjd_dask.runtime.spec import (
    AddressSpec,
    KubernetesSpec,
    LocalSpec,
    SlurmSpec,
    read_cluster_spec,
)

DEPLOY = Path(__file__).parents[2] / "deploy"


def facts() -> dict[str, Any]:
    import numba
    import numpy  # noqa: F401

    return {
        "blas": [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"],
        "environment": {name: os.environ.get(name) for name in ("RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        "numba": numba.get_num_threads(),
    }


def memory_rules(dask_worker: Any) -> tuple[Any, ...]:
    manager = dask_worker.memory_manager
    return (manager.memory_limit, manager.memory_pause_fraction, manager.memory_spill_fraction)


def test_local_workers_have_one_thread_of_everything() -> None:
    before = dict(os.environ)
    with open_cluster("local", workers=2, memory="600MB") as cluster, open_cluster(workers=1) as beside:
        assert (cluster.n_workers, cluster.threads_per_worker, cluster.memory_per_worker) == (2, 1, 600_000_000)
        assert cluster.warnings == []
        assert beside.memory_per_worker > 600_000_000
        for found in cluster.client.run(facts).values():
            assert set(found["blas"]) == {1}
            assert found["environment"] == {"RAYON_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            assert found["numba"] == 1
        assert set(cluster.client.run(memory_rules).values()) == {(600_000_000, False, False)}
        # The driver's own kernels keep their threads.
        assert "RAYON_NUM_THREADS" not in os.environ or "RAYON_NUM_THREADS" in before
        pids = list(cluster.client.run(os.getpid).values())
    assert {name: os.environ.get(name) for name in before} == before
    assert "OPENBLAS_NUM_THREADS" not in os.environ or "OPENBLAS_NUM_THREADS" in before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_default_number_of_workers_is_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sjd_dask.runtime.cluster.available_cpus", lambda: 1)
    monkeypatch.setattr("sjd_dask.runtime.cluster.memory_limit", lambda: 1_000_000_000)
    with open_cluster() as cluster:
        assert (cluster.n_workers, cluster.memory_per_worker) == (1, 900_000_000)


def test_script_without_guard_gets_a_clear_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from sjd_dask.runtime.cluster import open_cluster\nopen_cluster(workers=1)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "if __name__ ==" in done.stderr.strip().splitlines()[-1]


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_module.CONNECT_SECONDS <= 10
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 2.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(SjdError, match=rf"no Dask scheduler answers at {address} within 2 s.*dask scheduler"):
            open_cluster(address)
        assert time.monotonic() - begin < 5


def test_something_else_at_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(SjdError, match="no Dask scheduler answers at tcp://127"):
            open_cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_tls_without_certificates_says_so() -> None:
    with pytest.raises(SjdError, match=r"tls:// cluster needs certificates"):
        open_cluster("tls://127.0.0.1:1")


class Remote:
    """A scheduler in a process of its own, and workers as asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def start(self, module: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
            env={**clean, "PYTHONPATH": str(Path(__file__).parent), **environment},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(
            "dask_worker",
            self.address,
            "--no-dashboard",
            "--no-nanny",
            "--local-directory",
            str(self.folder),
            *arguments,
        )

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self.processes.remove(process)

    def close(self) -> None:
        for process in list(self.processes):
            self.stop(process)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    opened = Remote(tmp_path_factory.mktemp("remote"))
    yield opened
    opened.close()


def test_no_worker_comes(remote: Remote, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"kind: address\naddress: {remote.address}\nwait: 0.5\n")
    with pytest.raises(Interrupted, match=r"0 of at least 1 workers came within 0\.5 s"):
        open_cluster(file)


def test_workers_of_another_version_or_without_the_package(remote: Remote, tmp_path: Path) -> None:
    preload = tmp_path / "older.py"
    preload.write_text("import sjd_dask\nsjd_dask.__version__ = '0.0.1'\n")
    process = remote.worker("--preload", str(preload))
    with pytest.raises(SpecError, match=r"1 of 1 workers have sjd-dask 0\.0\.1 .*the driver has \d.*Install the same"):
        open_cluster(remote.address)
    remote.stop(process)
    preload = tmp_path / "absent.py"
    preload.write_text("import sys\nsys.modules['sjd_dask'] = None\n")
    process = remote.worker("--preload", str(preload))
    with pytest.raises(SpecError, match=r"can't import sjd-dask"):
        open_cluster(remote.address)
    remote.stop(process)


def test_remote_workers_are_set_to_one_thread_and_warned_of(remote: Remote) -> None:
    process = remote.worker("--nthreads", "2", "--memory-limit", "1GB")
    with open_cluster(remote.address) as cluster:
        assert (cluster.n_workers, cluster.threads_per_worker, cluster.memory_per_worker) == (2, 2, 500_000_000)
        assert any("several tasks in one process" in line for line in cluster.warnings)
        (found,) = cluster.client.run(facts).values()
        assert set(found["blas"]) == {1}
        assert found["environment"]["RAYON_NUM_THREADS"] == "1"
        ((_, pause, spill),) = cluster.client.run(memory_rules).values()
        assert (pause, spill) == (False, False)
    remote.stop(process)
    with pytest.raises(SpecError, match="is set where they are started"):
        open_cluster(remote.address, memory="1GB")


# -- cluster files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: local\nworker: 2\n", r"worker: Extra inputs"),
        ("kind: local\nworkers: 0\n", r"workers: .*greater than or equal to 1"),
        ("kind: local\nmemory: plenty\n", r"'plenty' is no amount of memory"),
        ("kind: local\nmemory: 1MB\n", r"'1MB' is below 100MB"),
        ("kind: cloud\n", r"kind: .*'local', 'address', 'slurm', 'kubernetes'"),
        ("workers: 2\n", r"a mapping with a key `kind`"),
        ("- 1\n", r"a mapping with a key `kind`"),
        ("kind: [\n", r"can't be read as YAML"),
        ("kind: address\naddress: host:8786\n", r"address: .*pattern"),
        ("kind: slurm\nqueue: long\n", r"workers: Field required"),
        (
            "kind: address\naddress: tls://h:1\ntls: {ca_file: ca.pem, cert: c.pem, key: k.pem}\n",
            r"tls\.ca_file names .*ca\.pem, which is not a file",
        ),
    ],
)
def test_bad_cluster_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_cluster_spec(file)


def test_what_names_a_cluster(tmp_path: Path) -> None:
    assert read_cluster_spec(None) == read_cluster_spec("local") == LocalSpec()
    assert read_cluster_spec("tls://host:8786") == AddressSpec(kind="address", address="tls://host:8786")
    with pytest.raises(SpecError, match=r"'nosuch\.yaml' is no cluster"):
        read_cluster_spec("nosuch.yaml")
    with pytest.raises(SpecError, match="address"):
        read_cluster_spec("http://host")
    with pytest.raises(SpecError, match="0 workers"):
        open_cluster(workers=0)


@pytest.mark.parametrize("name", ["local", "slurm", "kubernetes"])
def test_files_that_come_with_the_package_are_valid(name: str) -> None:
    assert read_cluster_spec(DEPLOY / f"{name}.yaml").kind == name


def test_slurm_script(tmp_path: Path) -> None:
    spec = SlurmSpec(
        kind="slurm", workers=8, workers_per_job=4, memory="1GB", queue="long", account="sjd", walltime="01:00:00",
        log_folder=tmp_path, job_extra_directives=["--qos=low"], job_script_prologue=["module load python"],
        interface="lo",
    )  # fmt: skip
    try:
        import dask_jobqueue  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependency, match=r"kind slurm needs .*sjd-dask\[slurm\]"):
            start_slurm(spec)
        pytest.skip("dask-jobqueue is not installed: the job script is not looked at")
    script = slurm_job_script(spec)
    for line in (
        "#SBATCH -p long", "#SBATCH -A sjd", "#SBATCH -t 01:00:00", "#SBATCH --cpus-per-task=4", "#SBATCH --qos=low",
        "export OPENBLAS_NUM_THREADS=1", "export RAYON_NUM_THREADS=1", "module load python",
        "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False",
    ):  # fmt: skip
        assert line in script.splitlines(), script
    assert "--nworkers 4" in script
    assert "--nthreads 1" in script


def test_kubernetes_arguments() -> None:
    spec = KubernetesSpec(kind="kubernetes", image="registry/sjd:1", workers=3, memory="2GB", env={"AWS_REGION": "eu"})
    arguments = kubernetes_arguments(spec)
    assert arguments["n_workers"] == 3
    assert arguments["resources"]["limits"] == {"cpu": "1", "memory": "2000000000"}
    assert arguments["env"]["RAYON_NUM_THREADS"] == "1"
    assert arguments["env"]["DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE"] == "False"
    assert arguments["env"]["AWS_REGION"] == "eu"
    try:
        import dask_kubernetes  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependency, match=r"kind kubernetes needs .*sjd-dask\[kubernetes\]"):
            start_kubernetes(spec)
