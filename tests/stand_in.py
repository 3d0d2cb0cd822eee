"""A stand-in for the analysis behind the command line, and small inputs for it."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from jaxface.cli import FaceRecord, Source
from jaxface.io import default_camera
from jaxface.output import OPENFACE_UNITS, Table

FACES = 2  # faces that the stand-in finds in an image
CAMERA = default_camera(height=48, width=64)  # of the pictures below


def make_row(frame: int, face_id: int, timestamp: float, value: float) -> Table:
    def full(*shape: int) -> np.ndarray:
        return np.full((1, *shape), value, np.float32)

    points = (full(2, 3), full(2), full(56, 2), full(56, 3), full(6), full(68, 2), full(68, 3))
    pose = (full(), full(3), full(2), full(34))
    key = np.array([frame]), np.array([face_id]), np.array([timestamp]), np.array([0.9])
    return Table(*key, np.array([value > 0]), *points, *pose, np.zeros((1, 0)), np.zeros((1, 0)))


class StandIn:
    """Stands in for the analysis: landmarks are the frame's mean level; black has no face."""

    def __init__(self, source: Source):
        self.source = source
        self.count = 0
        self.units = OPENFACE_UNITS

    def __iter__(self):
        alone = self.source.faces == "one"
        streaming = self.source.mode == "video" and alone
        for index, frame in enumerate(self.source.frames):
            level = float(frame[..., 0].mean().round())
            for face_id in range(1 if alone else FACES):
                if level == 0 and not streaming:
                    continue  # only a tracked clip has rows without a face
                row = make_row(index + 1, face_id, self.source.timestamp(index), level)
                if not streaming:
                    units = {"au_intensity": np.ones((1, 17)), "au_presence": np.ones((1, 18))}
                    row = dataclasses.replace(row, **units)
                self.count += 1
                aligned = np.full((112, 112, 3), int(level), np.uint8)
                yield FaceRecord(row, np.full(4464, 0.1, np.float32), level > 0, aligned)

    def action_units(self):
        if self.source.mode == "image" or self.source.faces == "all":
            return None
        return ((np.full(17, 0.5 * i), np.zeros(18)) for i in range(self.count))


def put_behind_command_line(monkeypatch) -> list[str]:
    """Lets `main` analyse with the stand-in. Returns a list of the modes that it was called for."""
    seen: list[str] = []

    def process(source: Source) -> StandIn:
        seen.append(source.mode)
        return StandIn(source)

    monkeypatch.setattr("jaxface.cli._engine.load_process", lambda options: process)
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    return seen


def write_image(path: Path, level: int = 50) -> str:
    assert cv2.imwrite(str(path), np.full((48, 64, 3), level, np.uint8))
    return str(path)


def write_video(path: Path, count: int = 6) -> str:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(count):
        writer.write(np.full((48, 64, 3), 20 * i % 250, np.uint8))
    writer.release()
    return str(path)


def read_cells(path: Path, name: str) -> list[str]:
    header, *lines = path.read_text().splitlines()
    at = header.split(", ").index(name)
    return [line.split(", ")[at] for line in lines]
