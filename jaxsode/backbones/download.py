"""A file of weights over HTTP: `jaxsode.download`, with errors that speak of weights."""

from pathlib import Path

from jaxsode import download as http
from jaxsode import errors
from jaxsode.download import Progress
from jaxsode.errors import WeightsError


class Unreachable(WeightsError):
    """The server can't be reached or does not have the file; another may."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> None:
    """Downloads a file of weights.

    Args:
        url, target, sha256, progress, timeout: see `jaxsode.download.download`.

    Raises:
        Unreachable: no connection, or the server refuses.
        WeightsError: the connection was cut, or the checksum is wrong; then the part is removed.
        OutputError: the file can't be written.
    """
    options = {"by_hand": "pass --weights FILE", "sha256": sha256, "timeout": timeout}
    try:
        http.download(url, target, progress=progress, **options)
    except errors.Unreachable as error:
        raise Unreachable(str(error)) from error
    except errors.DownloadError as error:
        raise WeightsError(str(error)) from error
