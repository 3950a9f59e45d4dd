"""Where what can be made again is kept between processes."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder: the one that the environment variable UNROLLED_CACHE names, or the system's own for caches."""
    return Path(os.environ.get("UNROLLED_CACHE") or platformdirs.user_cache_dir("unrolled"))
