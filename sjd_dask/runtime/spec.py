"""Cluster files: what a YAML file may say about where tasks run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from sjd_dask.errors import SpecError


class _Spec(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class TlsSpec(_Spec):
    """Certificates of a `tls://` cluster, as paths relative to the cluster file."""

    ca_file: Path
    cert: Path
    key: Path


class LocalSpec(_Spec):
    """Processes on this machine."""

    kind: Literal["local"] = "local"
    workers: Annotated[int, pydantic.Field(ge=1)] | None = None
    memory: str | int | None = pydantic.Field(default=None, description="per worker, for example 2GB")
    scratch: Path | None = pydantic.Field(default=None, description="folder for the workers' scratch files")


class AddressSpec(_Spec):
    """A Dask scheduler that runs already."""

    kind: Literal["address"]
    address: str = pydantic.Field(pattern=r"^(tcp|tls|ucx|ws|wss)://.+")
    workers: Annotated[int, pydantic.Field(ge=1)] = pydantic.Field(
        default=1, description="wait until so many are there"
    )
    wait: float = pydantic.Field(default=60.0, gt=0, description="seconds to wait for workers")
    tls: TlsSpec | None = None


class SlurmSpec(_Spec):
    """Workers as Slurm jobs, through dask-jobqueue; the driver runs on a login or batch node."""

    kind: Literal["slurm"]
    workers: Annotated[int, pydantic.Field(ge=1)]
    workers_per_job: Annotated[int, pydantic.Field(ge=1)] = 1
    memory: str | int = pydantic.Field(default="2GB", description="per worker")
    queue: str | None = None
    account: str | None = None
    walltime: str = "04:00:00"
    interface: str | None = pydantic.Field(default=None, description="network interface, for example ib0")
    scratch: Path | None = None
    log_folder: Path | None = None
    python: str | None = pydantic.Field(default=None, description="interpreter on the nodes; this one by default")
    job_extra_directives: list[str] = []
    job_script_prologue: list[str] = []
    minimum: Annotated[int, pydantic.Field(ge=1)] = pydantic.Field(
        default=1, description="start when so many are there"
    )
    wait: float = pydantic.Field(default=600.0, gt=0, description="seconds to wait for the first workers")
    tls: TlsSpec | None = None


class KubernetesSpec(_Spec):
    """Workers as pods, through the Dask operator."""

    kind: Literal["kubernetes"]
    name: str = "sjd-dask"
    namespace: str | None = None
    image: str
    workers: Annotated[int, pydantic.Field(ge=1)]
    memory: str | int = pydantic.Field(default="2GB", description="per worker")
    env: dict[str, str] = {}
    minimum: Annotated[int, pydantic.Field(ge=1)] = 1
    wait: float = pydantic.Field(default=600.0, gt=0)


ClusterSpec = LocalSpec | AddressSpec | SlurmSpec | KubernetesSpec
_ADAPTER: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Annotated[ClusterSpec, pydantic.Field(discriminator="kind")])


def read_cluster_spec(spec: str | Path | None) -> ClusterSpec:
    """Understand what the user named as cluster.

    Parameters
    ----------
    spec
        `local` (or None), an address `tcp://host:port` or `tls://host:port`, or the path of a YAML file.

    Raises
    ------
    SpecError
        The text is none of these, the file can't be read, or it has unknown or wrong keys.
    """
    text = "local" if spec is None else str(spec)
    if text == "local":
        return LocalSpec()
    if "://" in text:
        return _validate({"kind": "address", "address": text}, text)
    path = Path(text)
    if not path.is_file():
        raise SpecError(
            f"{text!r} is no cluster: give `local`, an address such as tcp://host:8786, or the path of a YAML "
            "file that exists"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path} can't be read as YAML: {error}") from error
    if not isinstance(data, dict) or "kind" not in data:
        raise SpecError(f"{path}: a cluster file is a mapping with a key `kind`: local, address, slurm or kubernetes")
    checked = _validate(data, str(path))
    tls = getattr(checked, "tls", None)
    if tls is not None:
        for name in ("ca_file", "cert", "key"):
            file = path.parent / getattr(tls, name)
            if not file.is_file():
                raise SpecError(f"{path}: tls.{name} names {file}, which is not a file")
            setattr(tls, name, file)
    return checked


def _validate(data: dict[str, Any], where: str) -> ClusterSpec:
    try:
        spec: ClusterSpec = _ADAPTER.validate_python(data)
    except pydantic.ValidationError as error:
        # The first place in `loc` is the kind, which the reader knows.
        problems = "; ".join(
            f"{'.'.join(str(item) for item in problem['loc'][1:]) or 'kind'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise SpecError(f"{where}: {problems}") from None
    memory_bytes(getattr(spec, "memory", None), where)
    return spec


def memory_bytes(value: str | int | None, where: str = "memory") -> int | None:
    """Bytes from a number or a text such as 700MB or 2GiB.

    Raises
    ------
    SpecError
        It is neither, or below 100 MB, where no worker can start.
    """
    if value is None:
        return None
    from dask.utils import parse_bytes

    try:
        number = int(parse_bytes(value))
    except ValueError:
        raise SpecError(f"{where}: {value!r} is no amount of memory; write for example 700MB or 2GB") from None
    if number < 100_000_000:
        raise SpecError(f"{where}: {value!r} is below 100MB, where no worker can start; write for example 700MB or 2GB")
    return number
