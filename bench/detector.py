"""Measures a detector on OpenFace's samples, which no detector of ours is trained on.

Usage: python bench/detector.py DETECTOR [--every N] [--min-face-size PX] [--json FILE]

DETECTOR is "openface" or the file of a trained detector. OpenFace's own landmarks are only
compared with. Finds OpenFace's data in $JAXFACE_SHARED, or in ../shared.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxface import read_image  # noqa: E402
from jaxface.detect import DetectConfig, detect_faces  # noqa: E402
from jaxface.models import read_module  # noqa: E402
from jaxface.output import Table  # noqa: E402
from jaxface.reference.comparison.clips import Data, find_data, golden_run, load, open_clip  # noqa: E402

_RUNS = {
    "default.wmv": "default",
    "2015-10-15-15-14.avi": "2015-10-15-15-14",
    "image_sequence": "image_sequence",
    "image_sequence_gray": "image_sequence_gray",
    "multi_face.avi": "multi_face_VidMulti",
}
_SAME = 0.4  # overlap from which two boxes are of one face
_STILLS = ("sample1", "sample2", "sample3", "sample4", "sample5")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per clip and one for the images."""
    parser = argparse.ArgumentParser(description="Measures a detector on OpenFace's samples.")
    parser.add_argument("detector")
    parser.add_argument("--every", type=int, default=10, help="frames (default: %(default)s)")
    parser.add_argument("--min-face-size", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    data = find_data()
    named = arguments.detector == "openface"
    detector = load(data, "openface").detector if named else read_module(Path(arguments.detector))
    config = DetectConfig(min_face_size=arguments.min_face_size)
    detect = jax.jit(lambda image: detect_faces(detector, image, config=config))
    rows = [_compare(detect, name, _frames(data, name, arguments.every)) for name in _RUNS]
    rows.append(_compare(detect, "sample1 to 5", _stills(data)))
    for row in rows:
        print(json.dumps(row))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


def _frames(data: Data, clip: str, every: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every n-th frame, and the boxes of OpenFace's successful faces in it."""
    golden = golden_run(data, _RUNS[clip])
    for index, frame in enumerate(open_clip(data, clip)):
        if index % every == 0:
            rows = (golden.frame == index + 1) & (golden.success == 1)
            yield frame, _boxes(golden, rows)


def _stills(data: Data) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for name in _STILLS:
        golden = golden_run(data, f"img_{name}")
        rows = golden.confidence > 0.5
        yield read_image(data.samples / f"{name}.jpg"), _boxes(golden, rows)


def _boxes(golden: Table, rows: np.ndarray) -> np.ndarray:
    landmarks = golden.landmarks[rows]
    return np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)


def _compare(detect, name: str, pictures: Iterator[tuple[np.ndarray, np.ndarray]]) -> dict:
    frames = faces = found = extra = agreeing = 0
    overlap, errors = [], []
    for image, truth in pictures:
        result = detect(jnp.asarray(image, jnp.float32))
        boxes = np.asarray(result.boxes)[np.asarray(result.valid)]
        shared = _overlaps(boxes, truth)
        hits = shared.max(0) >= _SAME if len(boxes) and len(truth) else np.zeros(len(truth), bool)
        frames, faces, found = frames + 1, faces + len(truth), found + int(hits.sum())
        extra += len(boxes) - int(hits.sum())
        agreeing += bool(len(boxes)) == bool(len(truth)) and (not len(truth) or hits.any())
        for face in np.flatnonzero(hits):
            best = shared[:, face].argmax()
            overlap.append(shared[best, face])
            errors.append((boxes[best] - truth[face]) / (truth[face, 2] - truth[face, 0]))
    return {
        "clip": name,
        "frames": frames,
        "agreeing frames": round(agreeing / frames, 4),
        "OpenFace's faces": faces,
        "found": round(found / max(faces, 1), 4),
        "others": extra,
        "overlap": round(float(np.mean(overlap)), 4) if overlap else None,
        "x0 y0 x1 y1, face widths": np.round(np.mean(errors, 0), 3).tolist() if errors else None,
    }


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    area = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    return shared / (area[0][:, None] + area[1] - shared)


if __name__ == "__main__":
    sys.exit(main())
