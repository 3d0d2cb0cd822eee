"""A digest of the package's own sources: what is computed from them is kept on disk under it."""

import hashlib
from pathlib import Path

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
