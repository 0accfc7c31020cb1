"""A private certificate authority for one cluster: who holds a certificate of it may give the workers code to run.

Dask's `tls://` asks both sides for a certificate signed by one authority. Names of hosts aren't looked at, so the
authority must sign for this cluster alone; that is why it is made here and not taken from elsewhere.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sjd_dask.errors import MissingDependency, SpecError

ROLES: Final = ("scheduler", "worker", "client")
_AUTHORITY: Final = "ca"


@dataclass(frozen=True)
class Certificates:
    """What was made.

    Attributes
    ----------
    folder : Path
    files : tuple of str
    expires : datetime
    """

    folder: Path
    files: tuple[str, ...]
    expires: datetime.datetime


def make_certificates(folder: str | Path, hosts: Sequence[str] = (), days: int = 365) -> Certificates:
    """Make an authority, a certificate for scheduler, workers and clients, and the files that name them.

    Parameters
    ----------
    folder : str or Path
        New or empty. Gets ``ca.pem`` and ``ca.key``, ``ROLE.pem`` and ``ROLE.key`` for scheduler, worker and client,
        ``dask.yaml`` (Dask's configuration for scheduler and workers) and ``cluster.yaml`` (for ``--cluster``). Keys
        are readable by their owner alone.
    hosts : sequence of str
        Names and addresses that the certificates also carry, for software that looks at them.
    days : int
        How long they are valid.

    Raises
    ------
    SpecError
        The folder holds something already. Nothing was changed.
    MissingDependency
        The package `cryptography` isn't installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise MissingDependency("cryptography", "tls", "making certificates") from error
    place = Path(folder).expanduser().absolute()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise SpecError(
            f"{place} holds something already; certificates that are in use are not overwritten: name a new folder"
        )
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)  # clocks of a cluster differ
    end = start + datetime.timedelta(days=days)

    def name(of: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)])

    def begun(key: Any, of: str) -> Any:
        return (
            x509.CertificateBuilder()
            .subject_name(name(of))
            .issuer_name(name("sjd-dask private authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )

    def pem(key: Any) -> bytes:
        text: bytes = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return text

    authority = ec.generate_private_key(ec.SECP256R1())
    root = (
        begun(authority, "sjd-dask private authority")
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(x509, signs=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    content = {
        f"{_AUTHORITY}.key": pem(authority),
        f"{_AUTHORITY}.pem": root.public_bytes(serialization.Encoding.PEM),
    }
    # Workers serve one another and the scheduler, so each side may be either.
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    alternatives = x509.SubjectAlternativeName([_host(x509, one) for one in dict.fromkeys(["localhost", *hosts])])
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        signed = (
            begun(key, f"sjd-dask {role}")
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(x509, signs=False), critical=True)
            .add_extension(both, critical=False)
            .add_extension(alternatives, critical=False)
            .sign(authority, hashes.SHA256())
        )
        content |= {f"{role}.key": pem(key), f"{role}.pem": signed.public_bytes(serialization.Encoding.PEM)}
    content |= {"dask.yaml": _configuration(place).encode(), "cluster.yaml": _CLUSTER.encode()}
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, text in content.items():
        mode = 0o600 if file.endswith(".key") else 0o644
        with os.fdopen(os.open(place / file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as stream:
            stream.write(text)
    return Certificates(place, tuple(sorted(content)), end)


def _host(x509: Any, text: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(x509: Any, signs: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _configuration(place: Path) -> str:
    roles = "".join(
        f"      {role}:\n        cert: {place}/{role}.pem\n        key: {place}/{role}.key\n" for role in ROLES
    )
    return (
        "# Dask's configuration for scheduler and workers; a machine needs only the keys of the roles that it plays.\n"
        "# Point DASK_CONFIG at this file, or copy it into ~/.config/dask.\n"
        f"distributed:\n  comm:\n    require-encryption: true\n    tls:\n      ca-file: {place}/ca.pem\n{roles}"
    )


_CLUSTER: Final = """\
# For --cluster, where jobs are started: put in the scheduler's address.
kind: address
address: tls://SCHEDULER:8786
tls:
  ca_file: ca.pem
  cert: client.pem
  key: client.key
"""
