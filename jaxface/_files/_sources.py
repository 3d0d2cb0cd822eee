"""Where the package keeps what it computes from its own sources, and their digest."""

import hashlib
import os
from pathlib import Path

import platformdirs

_ROOT = Path(__file__).resolve().parents[1]  # of the package
NOT_TRACED = ("cli", "io", "output", "reference", "training")  # no program calls these


def _sources() -> list[Path]:
    """The sources of the core, wherever this file lies among them."""
    files = _ROOT.rglob("*.py")
    return sorted(p for p in files if p.relative_to(_ROOT).parts[0] not in NOT_TRACED)


def _hash_sources() -> str:
    digest = hashlib.sha256()
    for path in _sources():
        data = path.read_bytes()
        digest.update(f"{path.relative_to(_ROOT).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()


# Read when they are imported: later they may have been edited, and differ from what is run.
SOURCE_DIGEST = _hash_sources()


def cache_dir() -> Path:
    """$JAXFACE_CACHE_DIR, or the user's cache: installed models, prepared ones, programs."""
    chosen = os.environ.get("JAXFACE_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("jaxface"))
