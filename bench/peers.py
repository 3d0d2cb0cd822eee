"""Other packages on the same clip, each in an environment of its own; for `bench/speed.py`."""

import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxface.reference.comparison.clips import Data

_WORKER = Path(__file__).with_name("peer_worker.py")
_INSTALL, _RUN = 1800, 900  # s


class Peer(NamedTuple):
    """A package, and what it does on a clip."""

    name: str
    packages: tuple[str, ...]
    does: str


PEERS = (
    Peer("facenet-pytorch", ("facenet-pytorch", "opencv-python-headless<5"), "MTCNN alone"),
    Peer("mediapipe", ("mediapipe<0.10.22",), "face mesh, 478 points"),
    Peer("pymtcnn", ("pymtcnn[onnx]",), "MTCNN alone"),
    Peer("pyclnf", ("pyclnf", "pymtcnn[onnx]"), "detection and landmarks"),
    Peer("pyfaceau", ("pyfaceau", "pymtcnn[onnx]"), "landmarks and action units"),
)


@dataclasses.dataclass(frozen=True)
class PeerSpeed:
    """What was measured, or why not."""

    name: str
    does: str
    steady: float | None = None  # frames per second, median
    reason: str = ""


def measure_peers(
    data: Data, clip: str, repeats: int, folder: Path | None = None
) -> list[PeerSpeed]:
    """Frames per second of each peer, without its start.

    Args:
        folder: where the environments stay; by default a temporary one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        base = folder or Path(temporary)
        return [_measure(peer, data, clip, repeats, base / peer.name) for peer in PEERS]


def _measure(peer: Peer, data: Data, clip: str, repeats: int, folder: Path) -> PeerSpeed:
    try:
        python = install(peer, folder / "venv")
        environment = {**os.environ, "OPENFACE_MODELS_DIR": str(_models(data, folder))}
        command = [str(python), str(_WORKER), peer.name, str(data.samples / clip)]
        rates = [json.loads(_call(command, _RUN, environment))["rate"] for _ in range(repeats)]
    except (subprocess.SubprocessError, OSError) as error:
        return PeerSpeed(peer.name, peer.does, reason=_reason(error))
    return PeerSpeed(peer.name, peer.does, statistics.median(rates))


def install(peer: Peer, folder: Path) -> Path:
    """Python of the peer's environment, made where it is not there."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        _call([str(python), "-m", "pip", "install", "--quiet", *peer.packages], _INSTALL)
        done.touch()
    return python


def _models(data: Data, folder: Path) -> Path:
    """OpenFace's files as the Python ports lay them out; they write their own beside them."""
    originals = folder / "models" / "2.2.0" / "originals"
    if not originals.is_dir():
        shutil.copytree(data.models, originals)
    return folder / "models"


def _call(command: Sequence[str], seconds: float, environment: dict | None = None) -> str:
    """Last line of a program's output."""
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines else ""


def _reason(error: Exception) -> str:
    """The error that a failed program ended with, or how it ended."""
    said = getattr(error, "stderr", None) or ""
    said = said.decode(errors="replace") if isinstance(said, bytes) else said
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if isinstance(error, subprocess.TimeoutExpired) or not lines:
        return str(error).splitlines()[0][-200:]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b|ERROR: ", line)]
    return (errors or lines)[-1][:200]


def to_markdown(speeds: Sequence[PeerSpeed], product: float) -> str:
    """A row per peer."""
    lines = ["| package | does | frames/s | products per frame |", "|---|---|---|---|"]
    for s in speeds:
        if s.steady is None:
            cells = f"skipped: {s.reason.replace('|', '/')} | "
        else:
            cells = f"{s.steady:.1f} | {1 / s.steady / product:.3g}"
        lines.append(f"| {s.name} | {s.does} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit("usage: python bench/speed.py --peers")
