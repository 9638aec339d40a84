"""Vectors that wait in a temporary file: written one after the other, and read back in the same order."""

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxsode.errors import ArgumentError, OutputError

IN_MEMORY = 64 * 2**20
"""Bytes that stay in memory; one more, and all go to the disk."""

_HEADER = struct.Struct("<8sq")  # the dtype as NumPy spells it, how many numbers


class Spool:
    """Vectors of any real dtype, kept bit for bit, 16 bytes each beside their own.

    Up to IN_MEMORY bytes in memory, then in a file in the system's temporary directory (TMPDIR), which is
    gone when the spool is closed; on Linux it has no name and ends with the process, however that ends.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close

    def append(self, *vectors: NDArray[Any]) -> None:
        """Add vectors, each (n,), at the end.

        Raises:
            OutputError: there is no room in the temporary directory. What is spooled is lost.
            ArgumentError: the spool is closed.
        """
        with self._disk():
            self._file.seek(0, os.SEEK_END)
            for vector in vectors:
                self._file.write(_HEADER.pack(vector.dtype.str.encode(), vector.size))
                self._file.write(np.ascontiguousarray(vector).view(np.uint8).data)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """The vectors, first to last, read-only; one at a time in memory. Errors as `append`."""
        position = 0
        while True:
            with self._disk():
                self._file.seek(position)
                header = self._file.read(_HEADER.size)
                if not header:
                    return
                name, count = _HEADER.unpack(header)
                dtype = np.dtype(name.rstrip(b"\0").decode())
                numbers = self._file.read(count * dtype.itemsize)
                position = self._file.tell()
            yield np.frombuffer(numbers, dtype)

    def close(self) -> None:
        """Delete the file. Closing twice is fine."""
        with suppress(OSError):  # what was not yet written is not wanted
            self._file.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        if self._file.closed:
            raise ArgumentError(
                "the stream of pictures is closed: add pictures and ask for the result before"
            )
        try:
            yield
        except OSError as error:
            self.close()
            raise OutputError(
                f"the scores of pixels don't fit a temporary file ({error.strerror or error}):"
                " make room, or name another folder in TMPDIR"
            ) from error
