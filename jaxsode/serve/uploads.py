"""A request's body → pictures, ready for the detector, and nothing held that exceeds a limit."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from jaxsode.datasets.decode import open_picture
from jaxsode.errors import DataError
from jaxsode.inspection import Inspector
from jaxsode.preparation import Preparation

PATIENCE_S = 60.0
"""A body that takes longer is not waited for."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refused(Exception):
    """A request that can't be answered.

    Args:
        status: of HTTP.
        says: what is wrong and the remedy, in a line.
    """

    def __init__(self, status: int, says: str):
        super().__init__(says)
        self.status = status


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that came in.

    Attributes:
        name: of its file, as the sender has it.
        encoded: the file's bytes.
        prepared: (height, width, 3) uint8 of the detector's size.
        original: (height, width) of the picture itself.
    """

    name: str
    encoded: bytes
    prepared: np.ndarray
    original: tuple[int, int]


async def bodies(request: Request, *, most_bytes: int, most_files: int) -> list[tuple[str, bytes]]:
    """The files of a request: of a form, or the one that is its body.

    Args:
        request: whose body nobody has read.
        most_bytes: of the body.
        most_files: in a form.

    Returns:
        Names and contents.

    Raises:
        Refused: it is larger, slower or other than that.
    """
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > most_bytes:
        await drained(request, most_bytes)
        raise Refused(413, _too_large(most_bytes))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    body = (_Form if is_form else _Body)(request.receive, most_bytes)
    limited = Request(request.scope, body.receive)
    try:
        async with asyncio.timeout(PATIENCE_S):
            if not is_form:
                encoded = await limited.body()
                files = [("picture", encoded)] if encoded else []
            else:
                async with limited.form(max_files=most_files, max_fields=most_files) as form:
                    given = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
                    files = [(_name(value.filename), await value.read()) for value in given]
    except Refused as error:
        if error.status == 413 and not body.ended:
            await drained(request, most_bytes)
        raise
    except TimeoutError as error:
        raise Refused(408, f"the body took more than {PATIENCE_S:g} s: send a smaller one") from error
    except HTTPException as error:  # Starlette's, of a form that is none or has too many parts
        raise Refused(400, f"the form can't be read: {error.detail}") from error
    except (MultipartParseError, MultiPartException) as error:
        raise Refused(400, f"the form can't be read: {error}") from error
    if not files:
        raise Refused(400, "there is no picture: send one as the body, or files in a form")
    return files


async def drained(request: Request, most_bytes: int) -> None:
    """Let a body come in and forget it, so that its sender hears the answer; no more than so many bytes.

    Args:
        request: that is refused.
        most_bytes: of the body.
    """
    if request.headers.get("expect", "").lower() == "100-continue":
        return  # it waits to be asked for the body, and hears the answer instead
    limited = Request(request.scope, _Body(request.receive, most_bytes).receive)
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in limited.stream():
                pass
    except (Refused, TimeoutError):
        return


class _Body:
    """A body's messages, until they are more than is allowed.

    Attributes:
        ended: whether the last one has come.
    """

    def __init__(self, receive: Receive, most_bytes: int):
        self._receive = receive
        self._most_bytes = most_bytes
        self._total = 0
        self.ended = False

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message; raises `Refused` with the one that is too much."""
        message = await self._receive()
        part = message.get("body", b"")
        self.ended = not message.get("more_body", False)
        self._total += len(part)
        if self._total > self._most_bytes:
            raise Refused(413, _too_large(self._most_bytes))
        return message


class _Form(_Body):
    """The same of a form, whose last part Starlette leaves out, without a word, where its end never comes."""

    _tail = b""

    async def receive(self) -> MutableMapping[str, Any]:
        message = await super().receive()
        self._tail = (self._tail + message.get("body", b""))[-8:]
        if self.ended and not self._tail.rstrip().endswith(b"--"):
            raise MultiPartException("it has no end: send it whole")
        return message


def _name(given: str | None) -> str:
    """A file's name in one line."""
    return "".join(c if c.isprintable() else " " for c in given or "").strip() or "picture"


def _too_large(most_bytes: int) -> str:
    return (
        f"the body has more than {most_bytes / 1e6:.3g} MB: send fewer or smaller pictures, or serve with a "
        "higher --max-mb"
    )


def preparation_of(inspector: Inspector, max_pixels: int | None = None) -> Preparation:
    """How files become the detector's pictures, as `jaxsode predict` has it.

    Args:
        inspector: see `Inspector`.
        max_pixels: a file of more is refused, where that is fewer than the detector's own limit.
    """
    own = inspector.detector.preparation or Preparation(upright=True)
    return own if max_pixels is None else replace(own, max_pixels=min(max_pixels, own.max_pixels))


def decoded(name: str, encoded: bytes, preparation: Preparation, size: tuple[int, int]) -> Picture:
    """A file as the detector takes it.

    Args:
        name, encoded: of the file.
        preparation: see `preparation_of`.
        size: (height, width) of the detector.

    Raises:
        Refused: it can't be read as it should.
    """
    try:
        image = open_picture(encoded, channels=3, where=name, preparation=preparation)
    except DataError as error:
        raise Refused(422, str(error)) from error
    return Picture(name, encoded, preparation.resized(image, size), (image.height, image.width))
