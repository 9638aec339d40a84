"""What XLA compiled, kept for the next process: a command then starts sooner."""

import hashlib
import os
import platform
import warnings
from contextlib import suppress
from pathlib import Path

import jax

from jaxsode.errors import ArgumentError
from jaxsode.home import home
from jaxsode.kernels import native

FOLDER = "programs"


def keep() -> None:
    """Let XLA keep its programs in `JAXSODE_HOME`, in a folder for each kind of processor, and ours theirs.

    Nothing is changed where JAX was told of a folder of the user's (JAX_COMPILATION_CACHE_DIR), and nothing
    is kept where it can't be written, or where another user could: what lies there is run.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        folder = home() / FOLDER / processor()
        for made in (folder.parent, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (os.access(folder, os.W_OK) and _is_ours(folder.parent) and _is_ours(folder)):
            return
    except (ArgumentError, OSError):
        return  # it is a convenience: whoever needs the home for more is told so there
    native.keep_in(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # One that was cut off as it was written is compiled anew each time, and that is all.
    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache entry")
    # A small program takes as long to compile as ten to be read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can write to it."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def processor() -> str:
    """Names what programs are compiled for: a home may be shared by machines that can't run each other's, and
    loops are cut for as many cores as there are."""
    known = [platform.machine(), platform.processor(), f"{native.cores()} cores"]
    with suppress(OSError):  # not Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        known += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]
