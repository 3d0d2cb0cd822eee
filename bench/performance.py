"""What the talking head does when: pose, gaze and expression over ten seconds."""

from typing import NamedTuple

import numpy as np

FPS = 25
FRAMES = 250

_Keys = tuple[tuple[float, ...], ...]  # time, s, and values; between them the values glide

_ROTATION: _Keys = (  # pitch, yaw, roll, degrees
    (0.0, 2, 0, 0),
    (0.8, 2, 0, 0),
    (2.2, -3, -30, 3),
    (2.8, 4, -28, 2),
    (4.0, 0, 0, -2),
    (4.5, 0, 0, -2),
    (5.6, -2, 30, -5),
    (6.1, 2, 27, -4),
    (6.8, 0, 5, 0),
    (7.4, 15, 0, 4),
    (8.0, 5, -5, 10),
    (8.7, -15, 5, 2),
    (9.3, 0, 0, -10),
    (10.0, 2, 0, 0),
)
_PLACE: _Keys = (  # mm in front of the camera
    (0.0, 0, 28, 375),
    (2.5, 12, 30, 370),
    (5.5, -14, 26, 385),
    (8.0, 4, 32, 365),
    (10.0, 0, 28, 375),
)
_GAZE: _Keys = (  # pitch, yaw in the head, degrees: positive looks down, to the right
    *((0.0, 0, 0), (0.9, 0, 0), (0.95, 0, 14), (1.8, 0, 14), (1.86, 2, -8), (2.5, 2, -8)),
    *((2.56, -8, 18), (3.2, -8, 18), (3.26, 0, 0), (4.4, 0, 0), (4.46, 3, -15), (5.0, 3, -15)),
    *((5.06, 0, -20), (5.8, 0, -20), (5.86, 8, 5), (6.5, 8, 5), (6.56, 0, 0), (7.2, 0, 0)),
    *((7.26, -10, 0), (7.8, -10, 0), (7.86, 0, 12), (8.4, 0, 12), (8.46, 10, -4), (9.1, 10, -4)),
    *((9.16, 0, 0), (10.0, 0, 0)),
)
_BLINKS = (0.5, 1.86, 3.22, 4.44, 6.5, 7.24, 9.12)  # s, when the lids are closed
_BLINK = 0.13  # s from open to closed


class _Act(NamedTuple):
    """An expression that comes, stays and goes."""

    shapes: dict[str, float]  # weights at its height
    start: float  # s
    rise: float
    stay: float
    fall: float


_ACTS = (
    _Act({"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.5}, 3.3, 0.25, 0.5, 0.35),
    _Act({"mouthSmile": 0.8, "cheekRaiser": 0.6, "cheekSquint": 0.5}, 4.5, 0.4, 1.0, 0.5),
    _Act({"mouthUpperUp": 0.3}, 4.8, 0.3, 0.6, 0.4),
    _Act({"browDown": 0.9, "noseSneer": 0.5}, 6.5, 0.25, 0.4, 0.3),
    _Act({"mouthFrown": 0.7, "mouthShrugLower": 0.6}, 7.3, 0.25, 0.4, 0.3),
    _Act({"mouthSmile": 0.4, "browInnerUp": 0.3}, 9.2, 0.2, 0.25, 0.3),
)
_SPEECH = ((1.1, 3.2), (8.1, 9.2))  # s, from and to
_SYLLABLE = 0.21  # s
# The mouth of each syllable in turn: jaw, and another shape.
_SOUNDS = (
    *(("mouthLowerDown", 0.3, 0.45), ("mouthFunnel", 0.6, 0.35), ("mouthStretch", 0.4, 0.3)),
    *(("mouthPucker", 0.7, 0.15), ("mouthUpperUp", 0.3, 0.4), ("mouthPress", 0.4, 0.0)),
    *(("mouthLowerDown", 0.5, 0.6), ("mouthStretch", 0.3, 0.2)),
)


class Pose(NamedTuple):
    """Where the head is."""

    rotation: tuple[float, ...]  # pitch, yaw, roll, degrees
    place: tuple[float, ...]  # of the middle of the head, mm, camera axes


def pose_at(time: float) -> Pose:
    """Pose at a time, s."""
    return Pose(_glide(time, _ROTATION), _glide(time, _PLACE))


def gaze_at(time: float) -> tuple[float, float]:
    """Pitch and yaw of both eyes in the head, rad."""
    pitch, yaw = np.radians(_glide(time, _GAZE))
    return float(pitch), float(yaw)


def expression_at(time: float) -> dict[str, float]:
    """Weights, 0 to 1, of expression shapes; a name without side stands for both sides."""
    weights: dict[str, float] = {}

    def add(name: str, value: float) -> None:
        weights[name] = min(max(weights.get(name, 0.0), value), 1.0)

    for act in _ACTS:
        strength = _envelope(time - act.start, act.rise, act.stay, act.fall)
        for name, value in act.shapes.items():
            add(name, value * strength)
    for moment in _BLINKS:
        add("eyeBlink", _envelope(time - moment + _BLINK, _BLINK, 0.02, 1.4 * _BLINK))
    for start, end in _SPEECH:
        if start <= time < end:
            number, share = divmod((time - start) / _SYLLABLE, 1)
            shape, value, jaw = _SOUNDS[int(number) % len(_SOUNDS)]
            strength = float(np.sin(np.pi * share) ** 2)
            add(shape, value * strength)
            add("jawOpen", jaw * strength)
    return {name: value for name, value in weights.items() if value > 0}


def _glide(time: float, keys: _Keys) -> tuple[float, ...]:
    """Values at a time: still at every key, smooth between them."""
    times = np.array([key[0] for key in keys])
    after = int(np.clip(np.searchsorted(times, time, side="right"), 1, len(keys) - 1))
    first, second = np.array(keys[after - 1]), np.array(keys[after])
    share = _smooth((time - first[0]) / (second[0] - first[0]))
    return tuple(float(v) for v in first[1:] + share * (second[1:] - first[1:]))


def _envelope(since: float, rise: float, stay: float, fall: float) -> float:
    if since < rise:
        return _smooth(since / rise)
    return 1 - _smooth((since - rise - stay) / fall)


def _smooth(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)
