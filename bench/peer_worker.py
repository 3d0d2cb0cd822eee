"""One run of another package on a clip: `python peer_worker.py PEER CLIP`, in its environment.

Prints the frames per second of all but the first frame as JSON. Imports nothing of jaxface.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FRAMES = 100  # at most


def _read(clip: str) -> list[Any]:
    import cv2

    capture, frames = cv2.VideoCapture(clip), []
    while len(frames) < _FRAMES:
        ok, frame = capture.read()
        if not ok:
            break
        frames.append(frame)
    return frames


def _facenet_pytorch() -> Callable[[Any], object]:
    from facenet_pytorch import MTCNN  # pyright: ignore[reportMissingImports]

    detector = MTCNN(keep_all=True, device="cpu")
    return lambda frame: detector.detect(frame[..., ::-1].copy())


def _mediapipe() -> Callable[[Any], object]:
    import mediapipe  # pyright: ignore[reportMissingImports]

    mesh = mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True, max_num_faces=1)
    return lambda frame: mesh.process(frame[..., ::-1].copy())


def _pymtcnn() -> Callable[[Any], object]:
    from pymtcnn import MTCNN  # pyright: ignore[reportMissingImports]

    return MTCNN().detect


def _pyclnf() -> Callable[[Any], object]:
    from pyclnf import CLNF  # pyright: ignore[reportMissingImports]
    from pyclnf.models import ensure_models  # pyright: ignore[reportMissingImports]

    ensure_models()  # converts OpenFace's files that are there; downloads nothing
    return CLNF().detect_and_fit


_STEPS = {
    "facenet-pytorch": _facenet_pytorch,
    "mediapipe": _mediapipe,
    "pymtcnn": _pymtcnn,
    "pyclnf": _pyclnf,
}


def _pyfaceau(clip: str) -> float:
    """Of the whole clip, as it takes no frames."""
    from pyfaceau import OpenFaceProcessor  # pyright: ignore[reportMissingImports]

    processor = OpenFaceProcessor(verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "clip.csv"
        processor.process_video(clip, str(out))
        start = time.perf_counter()
        processor.process_video(clip, str(out))
        seconds = time.perf_counter() - start
        return (len(out.read_text().splitlines()) - 1) / seconds


def main(peer: str, clip: str) -> None:
    """Prints frames per second."""
    if peer == "pyfaceau":
        rate = _pyfaceau(clip)
    else:
        frames, step = _read(clip), _STEPS[peer]()
        step(frames[0])
        start = time.perf_counter()
        for frame in frames[1:]:
            step(frame)
        rate = (len(frames) - 1) / (time.perf_counter() - start)
    print(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main(*sys.argv[1:])
