"""A consistent copy of a cohort in one file, and a cohort made of it again.

The file is a tar archive: what it is (``backup.json``), the catalogue as one moment saw it (SQLite, whatever the cohort
uses), every file that this catalogue refers to, and last the size and hash of each, so a file that was cut short can't
be taken for a whole one. Stored bytes never change, so writers go on while it is made.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import sqlalchemy as sa

from sjd_dask.errors import DataError, FormatVersionError, SpecError
from sjd_dask.store.catalogue import migrate
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.copy import copy_catalogue
from sjd_dask.store.catalogue.session import Catalogue, engine_url, iso_time, now, who_am_i
from sjd_dask.store.cohort import COHORT_FILE, DEFAULT_CATALOGUE, Cohort, create_cohort, data_place
from sjd_dask.store.features import features_path
from sjd_dask.store.files import Files, fsync_folder, writing
from sjd_dask.store.layout import Layout
from sjd_dask.store.segment import load_manifest, manifest_path, segment_path

_FORMAT: Final = 1
_HEAD, _CATALOGUE, _DATA, _LIST = "backup.json", "catalogue.sqlite", "data/", "files.jsonl"
_MARK: Final = "restoring.json"
_PIECE: Final = 1 << 22


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes
    ----------
    id, name : str
        Of the backup, and of its cohort.
    created, expires : float
        Seconds since 1970. After `expires` it should be gone: people may have left since.
    snapshot : int
        The newest change in it.
    n_files, n_bytes : int
    """

    id: str
    name: str
    created: float
    expires: float
    snapshot: int
    n_files: int
    n_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; moments as UTC text."""
        return self.__dict__ | {"created": iso_time(self.created), "expires": iso_time(self.expires)}


def backup(cohort: Cohort, file: str | Path, expire_hours: float = 720.0) -> Backup:
    """Write a consistent copy of a cohort into one local file.

    Parameters
    ----------
    cohort : Cohort
    file : str or Path
        Appears when it is whole; must not exist. It holds the cohort's key: keep it as you keep the cohort.
    expire_hours : float
        After how long it should be gone.

    Raises
    ------
    SpecError
        The file is there already.
    DataError
        Bytes that the catalogue refers to are lost, or were removed meanwhile. No file was made.
    """
    path = Path(file).expanduser().absolute()
    if path.exists():
        raise SpecError(f"{path} exists; a backup doesn't overwrite one: name another file or move it away")
    if not path.parent.is_dir():
        raise SpecError(f"{path.parent} is no folder; make it, or name a file elsewhere")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with writing(str(path), "no backup was made"), tempfile.TemporaryDirectory(dir=path.parent) as folder:
            copy = Catalogue(f"sqlite:///{folder}/{_CATALOGUE}")
            migrate.create(copy, cohort.name)
            snapshot = copy_catalogue(cohort.catalogue, copy)
            # Nobody else may read it: it holds the key that names withdrawn people.
            with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb") as stream:
                created = now()
                made = Backup(secrets.token_hex(8), cohort.name, created, created + expire_hours * 3600, snapshot, 0, 0)
                made = _write(stream, cohort, copy, made)
                stream.flush()
                os.fsync(stream.fileno())
            copy.close()
            temporary.replace(path)
            fsync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return made


def restore(
    path: str | Path,
    file: str | Path,
    data: str | None = None,
    catalogue: str | None = None,
    *,
    allow_expired: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Backup:
    """Make a cohort of a backup.

    Parameters
    ----------
    path : str or Path
        Folder or URL that holds no cohort yet.
    file : str or Path
        From `backup`.
    data, catalogue : str, optional
        As in `create_cohort`; they need not be of the kind that the cohort had.
    allow_expired : bool
        Take a backup that should be gone already.

    Raises
    ------
    SpecError
        There is a cohort already, or something else in the way.
    DataError
        The file is no backup, is cut short or changed, or should be gone already. There is no cohort then.

    Notes
    -----
    ``cohort.toml`` comes last: interrupted, the same command begins again.
    """
    home = Files(path)
    if home.exists(COHORT_FILE):
        raise SpecError(f"{home.where(COHORT_FILE)} exists: there is a cohort already; nothing was restored")
    source = Path(file).expanduser()
    with _opened(source) as archive:
        head = _head(archive, source)
        if head["expires"] < now() and not allow_expired:
            raise DataError(
                f"{source} should be gone since {iso_time(head['expires'])}: people may have left the cohort after "
                f"it was made. Nothing was restored. --allow-expired takes it all the same; then run the withdrawals "
                f"since {iso_time(head['created'])} again before anybody reads it."
            )
        _begin(home, head, catalogue)
        place = data_place(home, data or ".")
        written: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            database = Path(folder) / _CATALOGUE
            try:
                found = _extract(archive, source, place, database, written, progress)
            except BaseException:
                for one in written:
                    place.delete(one)
                home.delete(_MARK)
                raise
            if place.is_local:
                os.sync()
            copy = Catalogue(f"sqlite:///{database}")
            migrate.open_checked(copy)
            made = Backup(**{key: head[key] for key in ("id", "name", "created", "expires", "snapshot")},
                          n_files=len(written), n_bytes=sum(size for size, _ in found.values()))  # fmt: skip
            create_cohort(
                path, data, catalogue, head["name"], Layout(**head["layout"]), fill=lambda new: _fill(new, copy, made)
            )
            copy.close()
    home.delete(_MARK)
    return made


# -- making ------------------------------------------------------------------------------------------------------------


def _write(stream: IO[bytes], cohort: Cohort, copy: Catalogue, made: Backup) -> Backup:
    listed: list[tuple[str, int, str]] = []
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        head = made.__dict__ | {"format": _FORMAT, "layout": cohort.layout.__dict__}
        _add(archive, _HEAD, json.dumps(head).encode())
        _add(archive, _CATALOGUE, Path(str(engine_url(copy.url).database)).read_bytes(), listed)
        for name, published in _referred(cohort.files, copy):
            try:
                content = cohort.files.read_bytes(name)
            except FileNotFoundError as error:
                raise DataError(
                    f"{cohort.files.where(name)} is lost or was removed while the backup was made; no backup was made. "
                    f"Try again; if it is lost, `sjd verify` names all that is."
                ) from error
            _add(archive, _DATA + name, content, listed)
            if published is not None and published != listed[-1][2]:
                raise DataError(
                    f"{cohort.files.where(name)} changed after it was published; no backup was made. Restore it from "
                    f"an earlier backup; `sjd verify` names all that changed."
                )
        lines = "".join(json.dumps([name, size, digest]) + "\n" for name, size, digest in listed)
        _add(archive, _LIST, lines.encode())
    return Backup(**made.__dict__ | {"n_files": len(listed) - 1, "n_bytes": sum(size for _, size, _ in listed)})


def _add(archive: tarfile.TarFile, name: str, content: bytes, listed: list[tuple[str, int, str]] | None = None) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
    archive.addfile(member, io.BytesIO(content))
    if listed is not None:
        listed.append((name, len(content), hashlib.blake2b(content, digest_size=16).hexdigest()))


def _referred(files: Files, copy: Catalogue) -> Iterator[tuple[str, str | None]]:
    """Names of all files that a catalogue refers to, with the hash of a segment's; and what its runs left."""
    with copy.read() as connection:
        segments = connection.execute(sa.select(t.segments).where(t.segments.c.state != "removed")).mappings().all()
        features = connection.execute(sa.select(t.assays.c.feature_table)).scalars().all()
        results = connection.execute(sa.select(t.results.c.files)).scalars().all()
        runs = connection.execute(sa.select(t.runs.c.id)).scalars().all()
    for record in segments:
        manifest = load_manifest(files, record["assay"], record["id"], record["manifest_hash"])
        yield manifest_path(record["assay"], record["id"]), None
        for name, (_, digest) in manifest.items():
            yield f"{segment_path(record['assay'], record['id'])}/{name}", digest
    for path in sorted({features_path(one) for one in features}):
        yield path, None
    # A version that was taken back and came again refers to the same file twice.
    for path in sorted({one["path"] for text in results for one in json.loads(text).values()}):
        for name in list(_tree(files, path)) or [path]:
            yield name, None
    for one in runs:
        for name in _tree(files, f"runs/{one}"):
            yield name, None


def _tree(files: Files, folder: str) -> Iterator[str]:
    for entry in files.walk(folder):
        if not entry.name.endswith(".tmp"):
            yield f"{folder}/{entry.name}"


# -- reading -----------------------------------------------------------------------------------------------------------


def _opened(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source, mode="r:")
    except FileNotFoundError as error:
        raise SpecError(f"there is no file {source}") from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{source} is not a backup that `sjd backup` made ({error})") from error


def _head(archive: tarfile.TarFile, source: Path) -> dict[str, Any]:
    first = archive.next()
    content = archive.extractfile(first) if first is not None and first.name == _HEAD else None
    if content is None:
        raise DataError(f"{source} is not a backup that `sjd backup` made: it doesn't begin with {_HEAD}")
    head: dict[str, Any] = json.loads(content.read())
    if head["format"] > _FORMAT:
        raise FormatVersionError(head["format"], _FORMAT, "backup")
    return head


def _begin(home: Files, head: dict[str, Any], catalogue: str | None) -> None:
    """Mark the place; what an interrupted restoring of the same backup left there is in nobody's way."""
    try:
        before = json.loads(home.read_bytes(_MARK))
    except FileNotFoundError:
        before = None
    url = engine_url(catalogue or DEFAULT_CATALOGUE)
    if before is not None and before["id"] == head["id"] and home.root is not None and url.database:
        if url.get_backend_name() == "sqlite":
            (home.root / url.database).unlink(missing_ok=True)
    elif any(True for _ in home.walk()):
        raise SpecError(f"{home.url} holds other files; restore into a new folder. Nothing was restored.")
    home.write_bytes(_MARK, json.dumps({"id": head["id"], "why": "a backup is being restored here"}).encode())


def _extract(
    archive: tarfile.TarFile,
    source: Path,
    place: Files,
    database: Path,
    written: list[str],
    progress: Callable[[str], None] | None,
) -> dict[str, tuple[int, str]]:
    """Put every file in its place; sizes and hashes as found, and under the list's name those that must be."""
    found: dict[str, tuple[int, str]] = {}
    listed: dict[str, tuple[int, str]] | None = None
    try:
        while (member := archive.next()) is not None:
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or listed is not None:
                raise DataError(f"{source} holds {member.name!r}, which `sjd backup` didn't put there")
            content = stream.read()
            if member.name == _LIST:
                rows = (json.loads(line) for line in content.decode().splitlines())
                listed = {name: (size, digest) for name, size, digest in rows}
                continue
            found[member.name] = (len(content), hashlib.blake2b(content, digest_size=16).hexdigest())
            if member.name == _CATALOGUE:
                database.write_bytes(content)
            elif member.name.startswith(_DATA):
                name = member.name.removeprefix(_DATA)
                # Refuses names that lead out of the folder.
                place.write_bytes(name, content, durable=False)
                written.append(name)
                if progress and len(written) % 1000 == 0:
                    progress(f"{len(written):,} files restored")
            else:
                raise DataError(f"{source} holds {member.name!r}, which `sjd backup` didn't put there")
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, EOFError) and error.errno is not None:
            raise
        raise DataError(f"{source} is cut short or damaged ({error}); nothing was restored") from error
    if listed is None:
        raise DataError(f"{source} is cut short: its list of files is missing; nothing was restored")
    if _CATALOGUE not in found:
        raise DataError(f"{source} holds no catalogue; nothing was restored")
    wrong = sorted(name for name in {*found, *listed} if found.get(name) != listed.get(name))
    if wrong:
        shown = ", ".join(repr(one.removeprefix(_DATA)) for one in wrong[:5])
        raise DataError(
            f"{source} is damaged: {len(wrong)} of its files are lost or changed ({shown}); nothing was restored"
        )
    return found


def _fill(new: Catalogue, copy: Catalogue, made: Backup) -> None:
    copy_catalogue(copy, new)
    with new.write() as connection:
        detail = {"backup": made.id, "of": iso_time(made.created), "snapshot": made.snapshot}
        connection.execute(
            sa.insert(t.audit).values(time=now(), who=who_am_i(), action="restore", detail=json.dumps(detail))
        )
