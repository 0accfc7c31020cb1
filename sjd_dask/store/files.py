"""Bytes in a local folder or an object store, behind one small picklable object.

A local write goes to a temporary name, is forced to disk and renamed, so a name either holds the whole content or
does not exist. An object store has no rename; there one PUT is atomic by itself.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from sjd_dask.errors import DataError, MissingDependency, SjdError, SpecError

if TYPE_CHECKING:
    from zarr.abc.store import Store

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free space there and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free space there and run the same command again",
    errno.EFBIG: "the file size limit of this process was reached (ulimit -f): raise it and run the same command again",
    errno.EROFS: "the folder is on a read-only file system: remount it or choose another place",
    errno.EACCES: "this user may not write there: change the folder's permissions or choose another place",
    errno.EPERM: "this user may not write there: change the folder's permissions or choose another place",
}


class Entry(NamedTuple):
    """One stored file: its name below the listed folder, size in bytes and time of change (seconds since 1970)."""

    name: str
    size: int
    modified: float


def storage_error(error: BaseException, where: str, undone: str) -> SjdError:
    """What to tell a person when storage refused a write: the place, what was not done, and the remedy.

    Parameters
    ----------
    error : BaseException
        What the operating system or the codec library raised.
    where : str
        The path or URL that was being written.
    undone : str
        What did not happen, as a clause ("the segment was not published").
    """
    code = getattr(error, "errno", None)
    text = str(error)
    if code is None:
        # The codec library reports the system's error as text.
        for known, phrase in (
            (errno.ENOSPC, "No space left"),
            (errno.EDQUOT, "quota"),
            (errno.EFBIG, "File too large"),
            (errno.EROFS, "Read-only file system"),
            (errno.EACCES, "Permission denied"),
        ):
            if phrase.lower() in text.lower():
                code = known
                break
    remedy = _REMEDIES.get(code or 0, "check the place and run the same command again")
    return SjdError(f"cannot write {where}: {text.strip() or type(error).__name__}; {undone}. Remedy: {remedy}.")


@contextmanager
def writing(where: str, undone: str) -> Iterator[None]:
    """Turn what storage raises inside the block into one clear error."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, where, undone) from error


@contextmanager
def whole_or_nothing(target: Path) -> Iterator[Path]:
    """A name beside `target` for a file or folder that takes the target's place when the block ends well, else goes."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def is_url(text: str) -> bool:
    """Whether a place is named by a URL with a scheme (s3://, gs://, ...), not by a folder."""
    return "://" in text


class Files:
    """Files below one folder or URL.

    Parameters
    ----------
    url : str or Path
        A local folder (created when first written to), ``file://`` URL, or an object-store URL (``s3://bucket/prefix``,
        ``gs://``, ``az://``). Object stores take credentials and endpoints from the environment (``AWS_*``, ...).

    Notes
    -----
    Holds the URL only; pickles to a few bytes, and opens what it needs in the process that uses it.
    """

    def __init__(self, url: str | Path) -> None:
        text = str(url)
        if text.startswith("file://"):
            text = text[len("file://") :]
        if is_url(text):
            self.url = text.rstrip("/")
            self.root: Path | None = None
        else:
            self.root = Path(text).expanduser().absolute()
            self.url = str(self.root)
        self._remote: Any = None

    def __repr__(self) -> str:
        return f"Files({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> tuple[type[Files], tuple[str]]:
        return Files, (self.url,)

    @property
    def is_local(self) -> bool:
        """Whether the files are in a local folder."""
        return self.root is not None

    def sub(self, path: str) -> Files:
        """The files below a folder of this place."""
        clean = _clean(path)
        return Files(self.root / clean) if self.root is not None else Files(f"{self.url}/{clean}")

    def where(self, path: str = "") -> str:
        """The full path or URL of a file, for messages and other libraries."""
        if not path:
            return self.url
        clean = _clean(path)
        return str(self.root / clean) if self.root is not None else f"{self.url}/{clean}"

    def local_path(self, path: str) -> Path:
        """The local path of a file; an error where the place is an object store."""
        if self.root is None:
            raise SpecError(f"{self.where(path)} is not a local path")
        return self.root / _clean(path)

    def read_bytes(self, path: str) -> bytes:
        """The content of a file; FileNotFoundError where there is none."""
        if self.root is not None:
            return self.local_path(path).read_bytes()
        with self._remote_errors(path):
            return bytes(self._store().get(_clean(path)).bytes())

    def write_bytes(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Write a file so that its name holds all of the content or does not exist.

        Without `durable` a power failure may leave a torn file: only for what carries a hash and can be made again.
        """
        with writing(self.where(path), "nothing was written under that name"):
            if self.root is None:
                self._put(path, content)
                return
            with self.new_local_file(path, durable=durable) as temporary:
                temporary.write_bytes(content)

    @contextmanager
    def new_local_file(self, path: str, *, durable: bool = True) -> Iterator[Path]:
        """A temporary local path that takes the file's name when the block ends well, and vanishes when it doesn't."""
        target = self.local_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            yield temporary
            if durable:
                with temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
            temporary.replace(target)
            if durable:
                fsync_folder(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def exists(self, path: str) -> bool:
        """Whether a file (or, locally, a folder) of that name exists."""
        if self.root is not None:
            return self.local_path(path).exists()
        try:
            self.size(path)
        except FileNotFoundError:
            return False
        return True

    def size(self, path: str) -> int:
        """Bytes of a file; FileNotFoundError where there is none."""
        if self.root is not None:
            return self.local_path(path).stat().st_size
        with self._remote_errors(path):
            return int(self._store().head(_clean(path))["size"])

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """Every file below a folder, at any depth, named relative to it; nothing where it does not exist."""
        if self.root is not None:
            base = self.local_path(folder) if folder else self.root
            yield from _walk(base, base)
            return
        prefix = _clean(folder) + "/" if folder else ""
        with self._remote_errors(folder):
            batches = list(self._store().list(prefix=prefix or None))
        for batch in batches:
            for item in batch:
                name = str(item["path"])
                yield Entry(name[len(prefix) :], int(item["size"]), item["last_modified"].timestamp())

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly below a folder, sorted."""
        if self.root is not None:
            base = self.local_path(folder) if folder else self.root
            return sorted(entry.name for entry in base.iterdir() if entry.is_dir()) if base.is_dir() else []
        prefix = _clean(folder) + "/" if folder else ""
        with self._remote_errors(folder):
            found = self._store().list_with_delimiter(prefix or None)
        return sorted(PurePosixPath(str(item)).name for item in found["common_prefixes"])

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        if self.root is not None:
            self.local_path(path).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError), self._remote_errors(path):
            self._store().delete(_clean(path))

    def delete_tree(self, folder: str) -> None:
        """Remove a folder and everything below it; nothing happens where there is none."""
        clean = _clean(folder)
        if self.root is not None:
            target = self.root / clean
            if target.is_dir():
                shutil.rmtree(target)
            return
        names = [f"{clean}/{entry.name}" for entry in self.walk(clean)]
        if names:
            with self._remote_errors(clean):
                self._store().delete(names)

    def zarr_store(self, path: str = "", *, read_only: bool = False) -> Store:
        """A Zarr store over a folder of this place; object stores go through obstore, which keeps the fast codecs."""
        if self.root is not None:
            from zarr.storage import LocalStore

            return LocalStore(self.where(path), read_only=read_only)
        from zarr.storage import ObjectStore

        return ObjectStore(Files(self.where(path))._store(), read_only=read_only)

    def _put(self, path: str, content: bytes) -> None:
        with self._remote_errors(path):
            self._store().put(_clean(path), content)

    @contextmanager
    def _remote_errors(self, path: str) -> Iterator[None]:
        try:
            from obstore.exceptions import BaseError, NotFoundError
        except ImportError as error:
            raise MissingDependency("obstore", "s3", f"the object store {self.url}") from error
        try:
            yield
        except NotFoundError as error:
            raise FileNotFoundError(self.where(path)) from error
        except BaseError as error:
            cause = str(error).split("\n\nDebug source", 1)[0].strip()
            raise SjdError(
                f"the object store refused {self.where(path) if path else self.url}: {cause}. Check the address, the "
                f"credentials in the environment, and the network; then run the same command again."
            ) from error

    def _store(self) -> Any:
        if self._remote is None:
            from obstore.store import from_url

            scheme = self.url.split("://", 1)[0]
            if scheme not in ("s3", "s3a", "gs", "az", "abfs", "abfss", "adl", "azure"):
                raise SpecError(
                    f"{self.url}: no storage of kind {scheme!r} is known; use a folder, s3://, gs:// or az://"
                )
            options: dict[str, Any] = {}
            if scheme in ("s3", "s3a") and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
                # A store in one's own network often speaks plain HTTP; the address was given on purpose.
                options["client_options"] = {"allow_http": True}
            self._remote = from_url(self.url, **options)
        return self._remote


def fsync_folder(folder: Path) -> None:
    """Force a folder's names to disk, so that a new file survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems refuse to sync a folder; they sync names on close.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _clean(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise DataError(f"{path!r} is not a path below its folder")
    return "/".join(parts)


def _walk(folder: Path, base: Path) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), base)
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue
        yield Entry(Path(entry.path).relative_to(base).as_posix(), status.st_size, status.st_mtime)
