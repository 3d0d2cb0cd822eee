"""Draws the clip of the first run: ten seconds of a made-up head whose every truth is known.

Usage: python bench/render_talking_head.py [--data DIR] [--out DIR]

Needs the morphable head of the training data (`DIR/ict-facekit`, default: training/ in
$JAXFACE_SHARED, or in ../shared). Writes talking_head.mp4 and its truth, talking_head.csv, into
bench/data. Nobody is shown: identity, skin, hair, light and room are drawn from one seed.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.performance import FPS, FRAMES, Pose, expression_at, gaze_at, pose_at  # noqa: E402
from jaxface.io import default_camera  # noqa: E402
from jaxface.training import View, load_head_model, random_background  # noqa: E402
from jaxface.training.action_units import UNITS, label_units, lip_gap, sides_of  # noqa: E402
from jaxface.training.data import (  # noqa: E402  # noqa: E402
    convention_offsets,  # noqa: E402
    euler_to_matrix,
    eyelid_paths,  # noqa: E402
    jaw_strips,
    landmarks_at_contour,
    matrix_to_euler,
)
from jaxface.training.render import (  # noqa: E402  # noqa: E402
    draw_head,
    find_regions,
    gaze_direction,
    lids_follow,  # noqa: E402
    random_complexion,
)

_WIDTH, _HEIGHT = 640, 480  # px
_FINER = 2  # times larger drawn, then reduced
_CENTRE = np.array([0, 0, -60], np.float32)  # mm, head frame: about which the head turns
_SEED = 11
_ROOM_SEED = 11
_LIGHT = np.array(
    [[-0.55, -0.5, -0.67, 0.72, 0.70, 0.66, 0.1], [0.6, -0.1, -0.79, 0.50, 0.52, 0.56, 0.75]],
    np.float32,
)  # a lamp on the left and the room's own light, as `draw_head` takes them


@dataclasses.dataclass(frozen=True)
class Pinhole(View):
    """A head in front of a camera; unlike `View`, it need not be on the optical axis."""

    offset: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))  # mm, of the head

    def project(self, points: np.ndarray) -> np.ndarray:
        turned = self.turn(points)
        factor = self.scale / (1 + turned[:, 2:] / self.distance)
        flat = (turned[:, :2] + self.offset) * factor + self.translation
        return np.concatenate([flat, turned[:, 2:]], axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the clip and writes its truth."""
    shared = Path(os.environ.get("JAXFACE_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description="Draws the talking head.")
    parser.add_argument("--data", type=Path, default=shared / "training")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "data")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    actor = Actor(arguments.data)
    path = arguments.out / "talking_head.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (_WIDTH, _HEIGHT))
    if not video.isOpened():
        raise OSError(f"{path}: this OpenCV cannot write MPEG-4")
    rows = []
    for number in tqdm(range(FRAMES), "frames"):
        moment = actor.at(number / FPS)
        video.write(actor.draw(moment)[..., ::-1])
        rows.append([number + 1, number / FPS, *actor.truth(moment)])
    video.release()
    header = ",".join(truth_columns())
    formats = ["%d", "%.3f", *["%.2f"] * 136, *["%.4f"] * 9, *["%.2f"] * len(UNITS)]
    truth_path = arguments.out / "talking_head.csv"
    np.savetxt(truth_path, rows, fmt=formats, delimiter=",", header=header, comments="")
    print(path, path.stat().st_size, truth_path, truth_path.stat().st_size)
    return 0


def truth_columns() -> list[str]:
    """Names as in an analysis: landmarks px, pose rad, gaze unit vectors, units 0 to 5."""
    points = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    pose = ["pose_Rx", "pose_Ry", "pose_Rz"]
    gaze = [f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"]
    return ["frame", "timestamp", *points, *pose, *gaze, *(f"{name}_r" for name in UNITS)]


class Moment(NamedTuple):
    """What the person does at one time."""

    pose: Pose
    weights: np.ndarray  # (57,) of the expression shapes
    vertices: np.ndarray  # (n, 3) mm
    gaze: np.ndarray  # (2, 3) unit vectors, head frame


class Actor:
    """The made-up person in the room."""

    def __init__(self, data: Path):
        self.head = load_head_model(data)
        lids = eyelid_paths(self.head)
        self.strips = jaw_strips(self.head)
        self.offsets = convention_offsets(self.head)
        rng = np.random.default_rng(_SEED)
        self.identity = 0.6 * rng.normal(size=len(self.head.identity_basis))
        self.complexion = random_complexion(rng, self.head, find_regions(self.head, lids))
        room = random_background(np.random.default_rng(_ROOM_SEED), _HEIGHT, _WIDTH)
        room = cv2.GaussianBlur(room, (0, 0), 5)
        self.room = cv2.resize(room, None, fx=_FINER, fy=_FINER)

    def at(self, time: float) -> Moment:
        """What the person does at a time, s."""
        head, pose = self.head, pose_at(time)
        pitch, yaw = gaze_at(time)
        weights = np.zeros(len(head.expression_names), np.float32)
        for name, value in expression_at(time).items():
            weights[sides_of(head, name)] = value
        vertices = head.vertices(self.identity, lids_follow(head, weights, pitch, yaw))
        return Moment(pose, weights, vertices, np.stack([gaze_direction(pitch, yaw)] * 2))

    def draw(self, moment: Moment) -> UInt8[np.ndarray, "h w 3"]:
        """The picture, RGB."""
        view = _view(moment.pose, _FINER)
        image, _ = draw_head(
            *(self.head, moment.vertices, self.complexion, view, self.room),
            gaze=moment.gaze,
            light=_LIGHT,
        )
        return cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)

    def truth(self, moment: Moment) -> list[float]:
        """The row of the truth, after frame and time."""
        head, view = self.head, _view(moment.pose, 1)
        points = landmarks_at_contour(head, self.strips, moment.vertices, view.rotation)
        flat = view.project(points + self.offsets)[:, :2]
        # The eye on the left of the picture comes first in results; both look alike here.
        looks = moment.gaze @ view.rotation.T
        gap = lip_gap(moment.vertices[head.landmarks])
        units = label_units(head, moment.weights, gap)
        return [*flat.T.ravel(), *matrix_to_euler(view.rotation), *looks.ravel(), *units]


def _view(pose: Pose, finer: int) -> Pinhole:
    """The pinhole camera of the clip, which an analysis assumes by default, in finer pixels."""
    focal, _, x, y = map(float, default_camera(height=_HEIGHT, width=_WIDTH))
    centre = (np.array([x, y]) + 0.5) * finer - 0.5
    return Pinhole(
        rotation=euler_to_matrix(np.radians(pose.rotation)),
        scale=finer * focal / pose.place[2],
        translation=centre,
        centre=_CENTRE,
        distance=pose.place[2],
        offset=np.array(pose.place[:2]),
    )


if __name__ == "__main__":
    sys.exit(main())
