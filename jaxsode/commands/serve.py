"""jaxsode serve: a detector as a service with a page."""

import signal
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxsode.commands.detectors import existing
from jaxsode.commands.exits import Stopped, check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.errors import ArgumentError
from jaxsode.home import expanded, readable
from jaxsode.inspection import Inspector

GRACE_S = 120
"""After a signal: whoever hasn't read its answer by then is left."""


@dataclass(frozen=True)
class Serve:
    """Serve a fitted detector: pictures in, decisions out, and a page to show it on.

    The detector's folder stays as it is. SIGTERM and Ctrl-C finish what came in, then end.
    """

    detector: Annotated[Path, tyro.conf.Positional]
    """Folder that jaxsode fit left."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is all of this machine's. There is no password: see the documentation."""
    port: int = 8000
    """Port; 0 takes a free one."""
    batch_size: int = 8
    """Pictures computed at once."""
    queue: int = 64
    """Pictures in the house at once; whoever comes beyond gets 503."""
    max_mb: float = 64.0
    """A request's body, in millions of bytes."""
    max_pixels: int = 50_000_000
    """A picture of more is refused; in colour it takes 4 bytes a pixel while it is decoded."""
    state: Path | None = None
    """A file that keeps the drift's state beyond the service's life; by default it is forgotten."""
    ignore_mask: Path | None = None
    """A picture that is white where nothing matters; by default the one that the threshold was made with."""
    certificate: Path | None = None
    """For https, which a browser asks for before it gives a webcam to another machine's page: PEM."""
    key: Path | None = None
    """The certificate's private key: PEM."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode serve") -> int:
    """Run the command; returns its exit code, see `exit_code`; 0 where a signal ended it in order."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return exit_code(lambda: serve(tyro.cli(Serve, prog=prog, args=arguments), console))


def serve(asked: Serve, console: Console) -> None:
    """Do what the command does, until a signal comes.

    Args:
        asked: what was asked for.
        console: for what is said.

    Raises:
        JaxsodeError: a mistake of the user's.
    """
    wanted = ("fastapi", "uvicorn", "python_multipart")
    if lacking := [name for name in wanted if util.find_spec(name) is None]:
        raise ArgumentError(f"the service needs {', '.join(lacking)}: pip install 'jaxsode[serve]'")
    _check(asked)
    certificate, key = _secure(asked.certificate, asked.key)
    check_device()
    import uvicorn

    from jaxsode.serve.app import Limits, Service, app
    from jaxsode.serve.state import Watch, check_outside

    folder = existing(asked.detector)
    state = None if asked.state is None else expanded(asked.state)
    if state is not None:
        check_outside(state, folder)
    inspector = Inspector.load(folder)
    if asked.ignore_mask is not None:
        own = inspector.detector
        mask = ignored_by(asked.ignore_mask, own.size, own.preparation)
        inspector = Inspector.load(folder, ignored=mask)
    calibration = inspector.calibration
    if calibration is None:
        console.print(f"{inspector.why_no_threshold}", style="yellow", markup=False)
    watch = None if calibration is None else Watch(calibration, state)
    limits = Limits(asked.batch_size, asked.queue, int(asked.max_mb * 1e6), asked.max_pixels)

    def said(line: str) -> None:
        console.print(line, style="yellow", markup=False)

    service = Service(inspector, limits, watch, said)
    listening = _listening(asked.host, asked.port)
    config = uvicorn.Config(
        app(service),
        log_config=None,  # the standard one: what is a warning goes to standard error
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = uvicorn.Server(config)
    with listening:
        # Not `thread.join`, of which Python before 3.13 believes that the thread has ended once a signal
        # handler raises in it.
        ended = threading.Event()

        def run() -> None:
            try:
                server.run([listening])
            finally:
                ended.set()

        threading.Thread(target=run, name="jaxsode-serve", daemon=True).start()
        try:
            while not server.started and not ended.wait(0.05):
                pass
            if not server.started:
                raise ArgumentError("the service didn't start: see what was said before")
            address = f"{'http' if certificate is None else 'https'}://{_shown(listening)}/"
            threshold = "no threshold" if calibration is None else f"threshold {calibration.threshold:.4g}"
            console.print(
                f"{readable(folder)} at {address} ({threshold}; {limits.batch_size} at once, at most "
                f"{limits.queue} in the house)",
                markup=False,
            )
            if not _is_loopback(listening):
                console.print("anybody who reaches it may use it: it asks for no password", style="yellow")
            while not ended.wait(1.0):  # with a limit, so that a signal is heard
                pass
        except (KeyboardInterrupt, Stopped) as signalled:
            number = signalled.number if isinstance(signalled, Stopped) else signal.SIGINT
            name = signal.Signals(number).name
            console.print(f"{name}: finishing what came in", markup=False)
            server.should_exit = True
            while not ended.wait(1.0):
                pass
            judged = sum(service.figures.pictures.values())
            console.print(f"{judged} pictures judged; ended", markup=False)
    if watch is not None:
        watch.write()


def _check(asked: Serve) -> None:
    for name in ("batch_size", "queue", "max_mb", "max_pixels"):
        if getattr(asked, name) <= 0:
            option = name.replace("_", "-")
            raise ArgumentError(f"--{option} {getattr(asked, name)} must be above 0")
    if not 0 <= asked.port <= 65535:
        raise ArgumentError(f"--port {asked.port} is none: give one from 0 to 65535")


def _secure(certificate: Path | None, key: Path | None) -> tuple[Path | None, Path | None]:
    """Both files for https, tried; None and None without."""
    if certificate is None and key is None:
        return None, None
    if certificate is None or key is None:
        raise ArgumentError("https needs both --certificate and --key")
    certificate, key = expanded(certificate), expanded(key)
    for path in (certificate, key):
        if not path.is_file():
            raise ArgumentError(f"{readable(path)} is no file: give a PEM file")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except OSError as error:  # of which SSLError is one
        raise ArgumentError(
            f"{readable(certificate)} and {readable(key)} are no certificate and its key ({error}): give PEM "
            "files that belong together, the key without a password"
        ) from error
    return certificate, key


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ArgumentError(
            f"{host}, port {port}, can't be listened at ({getattr(error, 'strerror', None) or error}): "
            "choose another --port or --host"
        ) from error


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(listening: socket.socket) -> bool:
    return ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback
