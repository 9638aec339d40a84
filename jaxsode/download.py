"""One file over HTTP: resumed where it was cut, checked, and under its final name only when whole."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from jaxsode.errors import DownloadError, OutputError, Unreachable

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here, and with all of them (None where the server doesn't say)."""

_BLOCK = 1 << 18


def download(
    url: str,
    target: Path,
    *,
    by_hand: str,
    sha256: str = "",
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> str:
    """Downloads a file; what a cut connection leaves in `TARGET.part` is resumed by the next call.

    Args:
        url: http or https.
        target: final path; replaced if it exists.
        by_hand: what to do with the file for one who downloads it by hand, for messages.
        sha256: the digits, or the leading digits, that the file's SHA-256 must have; "" checks nothing.
        progress: see `Progress`.
        timeout: seconds without a byte before giving up.

    Returns:
        The SHA-256 of the file.

    Raises:
        Unreachable: no connection, or the server refuses.
        DownloadError: the connection was cut, or the checksum is wrong; then the part is removed.
        OutputError: the file can't be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, by_hand, progress, timeout)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(sha256):
            part.unlink()
            raise DownloadError(
                f"{url}: the SHA-256 is {digest[: max(16, len(sha256))]}… where {sha256}… is expected: "
                f"nothing was kept; run again, or download it by hand and {by_hand}"
            )
        os.replace(part, target)
    except OSError as error:  # of the disk: the network's are told in _fetch
        raise OutputError(f"can't write {target}: {error.strerror}; set JAXSODE_HOME elsewhere") from error
    return digest


def _fetch(url: str, part: Path, by_hand: str, progress: Progress | None, timeout: float) -> None:
    done = part.stat().st_size if part.exists() else 0
    response = _open(url, done, timeout)
    if response is None:
        # there is nothing after what we have: it is of another file, or whole; either way begin anew
        part.unlink()
        return _fetch(url, part, by_hand, progress, timeout)
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            done = 0  # this server does not resume
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with part.open("ab" if done else "wb") as file:
            while block := _read(response, url, by_hand, done, total):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise _cut(url, by_hand, done, total, "end of data")


def _open(url: str, done: int, timeout: float) -> http.client.HTTPResponse | None:
    """The response with the bytes from `done` on; None if the server has none there."""
    headers = {"User-Agent": "jaxsode", **({"Range": f"bytes={done}-"} if done else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if done and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise Unreachable(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{url}: no connection ({reason})") from error


def _read(response: http.client.HTTPResponse, url: str, by_hand: str, done: int, total: int | None) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _cut(url, by_hand, done, total, str(error)) from error


def _cut(url: str, by_hand: str, done: int, total: int | None, reason: str) -> DownloadError:
    return DownloadError(
        f"{url}: the connection was cut after {done} of {total or 'unknown'} bytes ({reason}): run again to "
        f"resume, or download it by hand and {by_hand}"
    )
