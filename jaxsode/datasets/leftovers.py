"""Folders in the making: named after the process that makes them, and removed once it is gone.

A process that is killed (SIGKILL, SIGTERM, SIGHUP, a power cut) can't remove its own.
"""

import os
import re
import shutil
import socket
from pathlib import Path

import psutil

_NAME = re.compile(r"\.unfinished-(?P<host>.+)-(?P<process>\d+)-[^-]*")
_SLACK_S = 60  # clocks of files and of processes differ, on a network's disk by more


def prefix() -> str:
    """What the name of an unfinished folder of this process begins with."""
    return f".unfinished-{socket.gethostname()}-{os.getpid()}-"


def remove(folder: Path) -> None:
    """Remove what dead processes of this machine left unfinished in `folder`; what can't be removed stays."""
    for path in folder.glob(".unfinished-*"):
        match = _NAME.fullmatch(path.name)
        if match and match["host"] == socket.gethostname() and not _is_made(path, int(match["process"])):
            shutil.rmtree(path, ignore_errors=True)


def _is_made(path: Path, process: int) -> bool:
    """Whether the process still makes it. One that began after the last change has only the same number,
    as is usual where each container's first is 1."""
    try:
        return psutil.Process(process).create_time() < path.stat().st_mtime + _SLACK_S
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except (psutil.Error, OSError):
        return True
