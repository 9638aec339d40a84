"""The service's addresses: /predict, /healthz, /metrics, /calibration, and the page at /."""

import asyncio
import base64
import hashlib
import io
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import jaxsode
from jaxsode.datasets.decode import open_picture
from jaxsode.datasets.pipeline import WORKERS
from jaxsode.errors import NumericalError, OutputError
from jaxsode.inspection import Inspector
from jaxsode.regions import mask_on_original
from jaxsode.report.overlay import overlay
from jaxsode.serve.engine import Engine, Full, Judged, Places
from jaxsode.serve.figures import Figures
from jaxsode.serve.state import Watch
from jaxsode.serve.uploads import Picture, Refused, bodies, decoded, drained, preparation_of

PAGE = Path(__file__).with_name("page.html")
_NO_PLACE = Refused(503, "all places are taken: come again in a second")


@dataclass(frozen=True)
class Limits:
    """What the service takes.

    Attributes:
        batch_size: pictures computed at once.
        queue: pictures in the house at once: being read, decoded, waiting or computed.
        body_bytes: of a request.
        pixels: of a picture; None is the detector's own limit.
    """

    batch_size: int = 8
    queue: int = 64
    body_bytes: int = 64_000_000
    pixels: int | None = None


class Service:
    """All that the addresses share.

    Args:
        inspector: see `Inspector`.
        limits: see `Limits`.
        watch: the drift; None without a threshold.
        said: is given what an operator should read, a line each.
    """

    def __init__(
        self,
        inspector: Inspector,
        limits: Limits,
        watch: Watch | None,
        said: Callable[[str], object] = print,
    ):
        self.inspector = inspector
        self.limits = limits
        self.watch = watch
        self.said = said
        self.figures = Figures()
        self.places = Places(limits.queue)
        self.engine = Engine(inspector, limits.batch_size, self.figures.batch)
        self.preparation = preparation_of(inspector, limits.pixels)
        self.readers = ThreadPoolExecutor(WORKERS, thread_name_prefix="jaxsode-read")

    async def judged(
        self, request: Request, answer: Callable[[Picture, Judged], Any], *, most: int | None = None
    ) -> list[Any]:
        """Each picture of a request, judged.

        Args:
            request: whose body nobody has read.
            answer: is called in a thread with each picture and its result.
            most: of pictures; None is as many as there are places.

        Returns:
            What it made of them.

        Raises:
            Refused: there is no place, there are too many pictures, or one can't be read or judged.
        """
        try:
            self.places.take()
        except Full:
            await drained(request, self.limits.body_bytes)  # or the sender would not hear of it
            raise _NO_PLACE from None
        held = 1
        try:
            files = await bodies(request, most_bytes=self.limits.body_bytes, most_files=self.limits.queue)
            if most is not None and len(files) > most:
                raise Refused(400, f"{len(files)} pictures where {most} is asked for: send it by itself")
            try:
                self.places.take(len(files) - 1)
            except Full:
                raise _NO_PLACE from None
            held = len(files)
            # All of them end before the places are given back, whatever becomes of one.
            made = await asyncio.gather(*(self._one(*file, answer) for file in files), return_exceptions=True)
            for each in made:
                if isinstance(each, BaseException):
                    raise each
            return made
        finally:
            self.places.give(held)

    async def _one(self, name: str, encoded: bytes, answer: Callable[[Picture, Judged], Any]) -> Any:
        loop, size = asyncio.get_running_loop(), self.inspector.detector.size
        picture = await loop.run_in_executor(self.readers, decoded, name, encoded, self.preparation, size)
        judged = await asyncio.wrap_future(self.engine.submit(picture.prepared))
        return await loop.run_in_executor(self.readers, answer, picture, judged)

    def told(self, picture: Picture, judged: Judged) -> dict[str, Any]:
        """A picture's result, counted.

        Args:
            picture: that came in.
            judged: what the engine found.

        Returns:
            `picture`, `threshold`, and what `Inspector.told` tells.

        Raises:
            Refused: it has no finite score.
        """
        try:
            told = self.inspector.told(judged.inspected, judged.index, picture.original)
        except NumericalError as error:
            raise Refused(422, f"{picture.name}: {error}") from error
        self.figures.picture(told["decision"])
        if self.watch is not None:
            try:
                alarm = self.watch.add(told["score"], told["decision"] == "defective")
            except OutputError as error:  # of the state's file alone: the answer stands
                alarm = f"error: {error}"
            if alarm is not None:
                self.said(alarm)
        calibration = self.inspector.calibration
        threshold = None if calibration is None else calibration.threshold
        return {"picture": picture.name, **told, "threshold": threshold}

    def viewed(self, picture: Picture, judged: Judged) -> dict[str, Any]:
        """The same with what the page draws: the prepared picture, the heat over it, and the map itself."""
        told, shown = self.told(picture, judged), judged.anomaly_map
        drawn = overlay(picture.prepared, shown, self.inspector.detector.W.shape[1])
        top, left, bottom, right = self.preparation.placing(picture.original, shown.shape).box
        return told | {
            "drift": None if self.watch is None else self.watch.line(),
            "aspect": (right - left) / (bottom - top),
            "size": list(shown.shape),
            "map": base64.b64encode(np.ascontiguousarray(shown, "<f4").tobytes()).decode("ascii"),
            "prepared": _data(_png(picture.prepared)),
            "overlay": _data(_png(drawn)),
        }

    def drawn(self, picture: Picture, judged: Judged) -> bytes:
        """The overlay at the picture's own size, as `jaxsode predict` draws it: a PNG."""
        self.told(picture, judged)
        image = open_picture(picture.encoded, channels=3, where=picture.name, preparation=self.preparation)
        shown, calibration = judged.anomaly_map, self.inspector.calibration
        placing = self.preparation.placing(picture.original, shown.shape)
        above = None if calibration is None else mask_on_original(shown, calibration.threshold, placing)
        grown = self.preparation.restored(shown, picture.original)
        return _png(overlay(np.asarray(image), grown, self.inspector.detector.W.shape[1], above=above))

    def facts(self) -> dict[str, Any]:
        """What is served."""
        detector, calibration = self.inspector.detector, self.inspector.calibration
        return {
            "jaxsode": jaxsode.__version__,
            "backbone": detector.backbone.name,
            "size": list(detector.size),
            "k": int(detector.W.shape[1]),
            "fitted_on": int(detector.count),
            "threshold": None if calibration is None else calibration.threshold,
            "alpha": None if calibration is None else calibration.alpha,
        }

    def gauges(self) -> dict[str, tuple[str, float]]:
        """What is so now, for /metrics."""
        found: dict[str, tuple[str, float]] = {
            "jaxsode_queue_pictures": ("Places taken.", self.places.taken),
            "jaxsode_queue_limit": ("Places there are.", self.places.limit),
            "process_resident_memory_bytes": ("Memory.", psutil.Process().memory_info().rss),
        }
        if self.watch is not None:
            found["jaxsode_drift_statistic"] = (
                "Deviations of the last scores from the calibration's.",
                self.watch.statistic,
            )
            found["jaxsode_drift_limit"] = ("Beyond which, either way, it is an alarm.", self.watch.limit)
            found["jaxsode_drift_alarmed"] = ("1 once it was.", float(self.watch.alarm is not None))
        return found


def app(service: Service) -> FastAPI:
    """The service as an ASGI application; its engine starts and ends with it.

    Args:
        service: see `Service`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.engine.start)
        try:
            yield
        finally:
            await asyncio.to_thread(service.engine.stop)
            service.readers.shutdown()

    made = FastAPI(title="jaxsode", version=jaxsode.__version__, lifespan=lifespan, openapi_url=None)

    @made.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        service.figures.refusal(error.status)
        headers = {"Retry-After": "1"} if error.status == 503 else {}
        return JSONResponse({"error": str(error)}, error.status, headers)

    @made.exception_handler(HTTPException)
    async def none_such(request: Request, error: HTTPException) -> Response:
        service.figures.refusal(error.status_code)
        says = f"{request.method} {request.url.path}: {error.detail}; there are POST /predict and GET /"
        return JSONResponse({"error": says}, error.status_code, error.headers)

    @made.exception_handler(RequestValidationError)
    async def misspelt(request: Request, error: RequestValidationError) -> Response:
        service.figures.refusal(400)
        says = "; ".join(f"{each['loc'][-1]}={each['input']}: {each['msg']}" for each in error.errors())
        return JSONResponse({"error": says}, 400)

    @made.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @made.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        service.figures.refusal(500)
        return JSONResponse({"error": "it failed here: see the service's own output"}, 500)

    @made.post("/predict")
    async def predict(request: Request, overlay: bool = False, view: bool = False) -> Response:
        start = time.perf_counter()
        _check_origin(request)
        if overlay:
            (png,) = await service.judged(request, service.drawn, most=1)
            answer = Response(png, media_type="image/png")
        else:
            answer = JSONResponse(await service.judged(request, service.viewed if view else service.told))
        service.figures.request(time.perf_counter() - start)
        return answer

    @made.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok", **service.facts()})

    @made.get("/metrics")
    async def metrics() -> Response:
        text = service.figures.text(service.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @made.get("/calibration")
    async def calibration() -> Response:
        known = service.inspector.calibration
        scores = [] if known is None else [float(score) for score in np.sort(known.scores)]
        drift = None if service.watch is None else service.watch.line()
        why = service.inspector.why_no_threshold
        return JSONResponse({**service.facts(), "scores": scores, "drift": drift, "why_no_threshold": why})

    page = PAGE.read_text(encoding="utf-8")
    policy = _policy(page)

    @made.get("/")
    async def index() -> Response:
        return HTMLResponse(page, headers=policy)

    return made


def _check_origin(request: Request) -> None:
    """A page of another site may not have its visitor's browser send pictures here: they would count."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise Refused(403, f"the page of {origin} is not this service's: open the service's own page")


def _policy(page: str) -> dict[str, str]:
    """What the page may do: its own script and style, and this service; no other address."""

    def of(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    rules = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        f"script-src {of('script')}",
        f"style-src {of('style')}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    ]
    return {"Content-Security-Policy": "; ".join(rules), "X-Content-Type-Options": "nosniff"}


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
