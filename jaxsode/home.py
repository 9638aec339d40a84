"""Where jaxsode keeps what it makes once: converted weights and prepared data sets."""

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: $JAXSODE_HOME, or `jaxsode` in the user's cache directory. It may not exist yet."""
    if chosen := os.environ.get("JAXSODE_HOME"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "jaxsode"
