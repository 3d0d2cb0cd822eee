"""A model with five landmarks, all of whose seams are filled from outside the package.

Faces are five dark dots on light ground, so that the truth of every frame is known.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxface import Detections, LandmarkScheme, Model
from jaxface.analyze import no_action_units
from jaxface.detect import AbstractDetector
from jaxface.fit import CLNF, PDM, FaceWarp, FitConfig, LandmarkModel, OneRound, Validator
from jaxface.fit.experts import SUPPORT, AbstractPatchExperts
from jaxface.models import ModelInfo

SIZE = (120, 160)  # px
SCHEME = LandmarkScheme(
    name="five-dots",
    regions=(("eyes", (0, 1)), ("nose", (2,)), ("mouth", (3, 4))),
    mirror=(1, 0, 2, 4, 3),
    rigid_points=(0, 1, 2, 3, 4),
)
# mm; x right, y down, z away from the camera, as the head frame has it.
DOTS = np.array([[-30, -25, 0], [30, -25, 0], [0, 0, -12], [-22, 28, 0], [22, 28, 0]], np.float32)
_SMILE = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [-1, 0, 0], [1, 0, 0]], np.float32)
_DARK, _LIGHT, _RADIUS = 20, 230, 3.0  # grey levels, px


def draw_face(points: Float[np.ndarray, "5 2"], size: tuple[int, int] = SIZE) -> np.ndarray:
    """RGB bytes with a soft dark dot at each point."""
    y, x = np.mgrid[: size[0], : size[1]]
    away = np.hypot(x - points[:, :1, None], y - points[:, 1:, None]).min(axis=0)
    cover = np.clip(_RADIUS + 0.5 - away, 0, 1)
    gray = np.rint(_LIGHT + (_DARK - _LIGHT) * cover).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def true_points(frame: int) -> Float[np.ndarray, "5 2"]:
    """Where the dots of a frame are, px: a head that moves, comes nearer and tilts."""
    angle, scale = 0.01 * frame, 1 + 0.01 * frame
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * DOTS[:, :2] @ turn.T + [78 + 1.5 * frame, 60 + 0.7 * frame]


class DarkestBox(AbstractDetector):
    """Finds one face: the box around what is darker than `config`."""

    config: int = eqx.field(static=True, default=128)

    def detect(self, image: Array, size: Int[Array, "2"], config: Any) -> Detections:
        rows, columns = jnp.arange(image.shape[0]), jnp.arange(image.shape[1])
        dark = (jnp.mean(image, axis=2) < config) & (rows < size[0])[:, None]
        dark = dark & (columns < size[1])[None]
        by_row, by_column = jnp.any(dark, axis=1), jnp.any(dark, axis=0)

        def ends(marked: Bool[Array, " n"]) -> tuple[Array, Array]:
            return jnp.argmax(marked), marked.shape[0] - 1 - jnp.argmax(marked[::-1])

        (top, bottom), (left, right) = ends(by_row), ends(by_column)
        corners = jnp.stack([left, top, right, bottom]).astype(image.dtype)
        inset = jnp.asarray([_RADIUS, _RADIUS, -_RADIUS, -_RADIUS], image.dtype)
        box = corners + inset
        found = jnp.any(dark)
        box = jnp.where(found, box, 0)
        return Detections(
            boxes=box[None],
            scores=found.astype(image.dtype)[None],
            points=jnp.zeros((1, 5, 2), image.dtype),
            valid=found[None],
            sizes=(box[2:] - box[:2])[None],
            overflowed=jnp.zeros((), bool),
        )


class DotExperts(AbstractPatchExperts):
    """Scores a place by how much darker it is than the ground around it."""

    scale: float = eqx.field(static=True)
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]

    def prepare(self, windows: frozenset[int]) -> "DotExperts":
        return self

    def laid_out(self) -> None:
        return None

    def responses(
        self, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
    ) -> Float[Array, "b n w w"]:
        window = areas.shape[-1] - SUPPORT + 1
        dark = jnp.clip((_LIGHT - areas) / (_LIGHT - _DARK), 0, 1)
        middle = SUPPORT // 2

        def mean(closest: float, farthest: float) -> Array:
            """Darkness between two distances from each place."""
            offsets = [(i, j) for i in range(-5, 6) for j in range(-5, 6)]
            kept = [(i, j) for i, j in offsets if closest <= np.hypot(i, j) <= farthest]
            rows = [
                dark[..., middle + i : middle + i + window, middle + j : middle + j + window]
                for i, j in kept
            ]
            return sum(rows[1:], rows[0]) / len(rows)

        return jnp.maximum(mean(0, 2) - mean(4, 5), 0) ** 2

    def confidences(self, view: Int[Array, ""]) -> Float[Array, " n"]:
        return self.visible[view].astype(self.centres.dtype)


def toy_model(config: FitConfig | None = None) -> Model:
    """The model; its validator accepts everything."""
    pdm = PDM(
        mean_shape=jnp.asarray(DOTS),
        components=jnp.asarray(_SMILE[None]),
        eigenvalues=jnp.asarray([4.0], jnp.float32),
    )
    experts = tuple(
        DotExperts(scale=scale, centres=jnp.zeros((1, 3)), visible=jnp.ones((1, 5), bool))
        for scale in (0.5, 1.0)
    )
    settings = FitConfig(windows_init=(15, 11), windows_track=(15, 11), validation_boundary=0.5)
    clnf = CLNF(
        main=LandmarkModel(pdm, experts),
        parts=(),
        validator=_accepting_validator(),
        search=OneRound(),
        scheme=SCHEME,
        config=settings if config is None else config,
    )
    info = ModelInfo(name="toy", source="drawn", licence="none", landmark_scheme=SCHEME.name)
    return Model(info=info, detector=DarkestBox(), clnf=clnf, analyser=no_action_units(pdm))


def _accepting_validator() -> Validator:
    """Warps the parallelogram of the first three dots; its network says "best" always."""
    side = 60
    ramp = np.array([[0, 1 / side, 0]], np.float32), np.array([[0, 0, 1 / side]], np.float32)
    warp = FaceWarp(
        centres=jnp.zeros((1, 3)),
        mean=jnp.zeros((1, side, side)),
        std=jnp.ones((1, side, side)),
        mask=jnp.ones((1, side, side), bool),
        min_x=jnp.zeros(1),
        min_y=jnp.zeros(1),
        triangles=jnp.asarray([[[0, 1, 3]]], jnp.int32),
        triangle_id=jnp.zeros((1, side, side), jnp.int32),
        alpha=jnp.asarray(ramp[0][None]),
        beta=jnp.asarray(ramp[1][None]),
    )
    best = np.zeros((1, 20), np.float32)
    best[0, 0] = 1
    return Validator(
        layers=("fc",),
        warp=warp,
        weights=(jnp.zeros((1, 20, side * side)),),
        biases=(jnp.asarray(best),),
    )


def with_solver(model: Model, solver: Any) -> Model:
    """The model with another solver in its settings."""
    config = dataclasses.replace(model.clnf.config, solver=solver)
    return dataclasses.replace(model, clnf=dataclasses.replace(model.clnf, config=config))


def watchful_model() -> Model:
    """The toy, whose validator now accepts only where the warped face has a dark corner.

    There the first dot is. Of a picture without dots nothing is left once it is standardised.
    """
    model = toy_model()
    validator: Any = model.clnf.validator
    weights, biases = (np.array(a[0]) for a in (validator.weights, validator.biases))
    corner = np.zeros((60, 60), np.float32)
    corner[:2, :2] = -1
    weights[0, 0], biases[0, 0], biases[0, -1] = corner.reshape(-1), 0, 4
    edited = (jnp.asarray(weights),), (jnp.asarray(biases),)
    return eqx.tree_at(lambda m: (m.clnf.validator.weights, m.clnf.validator.biases), model, edited)


def draw_clip(shown: list[int]) -> np.ndarray:
    """Frames with the face, or the ground alone; after it was away the face is elsewhere."""
    frames, away = [], 0
    for number, kind in enumerate(shown):
        away += kind == 0
        points = true_points(number // 2) + np.array([2.5 * away, -1.5 * away])
        blank = np.full((*SIZE, 3), _LIGHT, np.uint8)
        frames.append(draw_face(points.astype(np.float32)) if kind else blank)
    return np.stack(frames)
