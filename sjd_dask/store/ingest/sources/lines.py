"""Text files as blocks of whole lines, decompressed as they are read, in bounded memory."""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

from sjd_dask.errors import DataError

# A block is at least one line and otherwise about this long: small enough for the processor's caches to help.
TEXT_BLOCK = 2 << 20
# A longer line is a binary file, not a table.
LONGEST_LINE = 1 << 30
_READ = 1 << 20
_AHEAD = 4

_OTHER_COMPRESSION = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


class LineReader:
    """Lines of a UTF-8 text file, plain or gzip (told by its first bytes, not by its name).

    A byte order mark is dropped, CRLF becomes LF, blank lines at the end of the file are dropped. Decompression runs
    one thread ahead of the reader. Memory: a few blocks of `TEXT_BLOCK`, or of the longest line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 1  # number of the next line
        self._offset = 0  # bytes of text given out
        self._carry: list[bytes] = []
        self._held = b""  # blank lines that count only if something follows
        self._raw: BinaryIO = path.open("rb")
        self._pool: ThreadPoolExecutor | None = None
        magic = self._raw.read(6)
        self._raw.seek(0)
        for start, name in _OTHER_COMPRESSION.items():
            if magic.startswith(start):
                self.close()
                raise DataError(f"{path} is compressed with {name}; only gzip is read: decompress it or use gzip.")
        if not magic:
            self.close()
            raise DataError(f"{path} is empty (0 bytes).")
        self.is_gzip = magic.startswith(b"\x1f\x8b")
        self._stream: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw)) if self.is_gzip else self._raw
        self._pending: deque[Future[bytes]] = deque()
        if self.is_gzip:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="gunzip")
            for _ in range(_AHEAD):
                self._pending.append(self._pool.submit(self._stream.read, _READ))
        self._first = True

    def close(self) -> None:
        """Stop reading ahead and close the file."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._raw.close()

    def _read(self) -> bytes:
        try:
            if self._pool is None:
                data = self._stream.read(_READ)
            else:
                data = self._pending.popleft().result()
                self._pending.append(self._pool.submit(self._stream.read, _READ))
        except EOFError:
            raise DataError(
                f"{self.path}: the gzip file is truncated: it ends in the middle, after line {self.line:,} or so. "
                "Copy or download it again."
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{self.path}: the gzip file is damaged near line {self.line:,} ({error}). Copy or download it again."
            ) from None
        if self._first:
            self._first = False
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{self.path} is UTF-16 text; save it as UTF-8.")
            if data.startswith(b"\xef\xbb\xbf"):
                self._offset = 3
                data = data[3:]
        return data

    def _check_utf8(self, block: bytes) -> None:
        if block.isascii():
            return
        try:
            block.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.line + block.count(b"\n", 0, error.start)
            raise DataError(
                f"{self.path}: line {line:,} is not UTF-8 text: byte 0x{block[error.start]:02x} at offset "
                f"{self._offset + error.start:,}{' of the decompressed text' if self.is_gzip else ''}. "
                "Save the file as UTF-8."
            ) from None

    def _give(self, block: bytes, size: int) -> bytes:
        self._check_utf8(block)
        self._offset += size
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        return block

    def read_line(self) -> bytes | None:
        """The next line without its line end; None at the end of the file."""
        while True:
            text = b"".join(self._carry)
            end = text.find(b"\n")
            if end >= 0:
                self._carry = [text[end + 1 :]]
                line = self._give(text[: end + 1], end + 1)
                self.line += 1
                return line.rstrip(b"\n")
            self._guard(text)
            data = self._read()
            if not data:
                self._carry = []
                if not text:
                    return None
                line = self._give(text, len(text))
                self.line += 1
                return line
            self._carry = [text, data]

    def _guard(self, text: bytes) -> None:
        if len(text) > LONGEST_LINE:
            raise DataError(
                f"{self.path}: line {self.line:,} is longer than {LONGEST_LINE:,} bytes: this is not a table."
            )

    def put_back(self, line: bytes) -> None:
        """Give a line back that `read_line` gave last."""
        self._carry.insert(0, line + b"\n")
        self.line -= 1
        self._offset -= len(line) + 1

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Pairs (number of the first line, whole lines each ended by LF) until the end of the file."""
        size = sum(map(len, self._carry))
        ended = False
        while not ended:
            data = self._read()
            if data:
                size += len(data)
                cut = data.rfind(b"\n") + 1 if size >= TEXT_BLOCK else 0
                if cut == 0:
                    self._carry.append(data)
                    if size > LONGEST_LINE:
                        self._guard(b"".join(self._carry))
                    continue
                self._carry.append(data[:cut])
                text = b"".join(self._carry)
                self._carry = [data[cut:]]
                size = len(data) - cut
            else:
                ended = True
                text = b"".join(self._carry)
                self._carry = []
                if text and not text.endswith(b"\n"):
                    text += b"\n"
            if not text:
                continue
            block = self._give(text, len(text))
            if self._held:
                block = self._held + block
                self._held = b""
            if block.endswith(b"\n\n") or block == b"\n":
                body = block.rstrip(b"\n")
                if not body:
                    self._held = block
                    continue
                self._held = block[len(body) + 1 :]
                block = block[: len(body) + 1]
            yield self.line, block
            self.line += block.count(b"\n")
