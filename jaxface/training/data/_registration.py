"""The head model registered to each portrait, which gives its 68 landmarks and its geometry.

The fitted head is bent so that it meets the portrait's mesh in the picture; depths stay the
model's. Landmarks are the model's vertices, the jaw's at the visible contour, so that portraits
and rendered heads share one definition.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from ..._files import AtomicFile
from ._camera import View
from ._contour import JawStrips, jaw_strips, landmarks_at_contour
from ._correspondence import Correspondence, find_correspondence, observe
from ._fitting import fit_head
from ._head_model import HeadModel, load_head_model
from ._portraits import Portraits, load_portraits

_FORMAT = 2  # of the files; to be raised when the fit or the matte changes
_WIDTH = 8.0  # mm over which a bend fades
_SMOOTH = 0.03  # how far a bend may miss its mesh point, against noise
_IRISES = ((473, 478), (468, 473))  # mesh points of the left and the right iris; the centre first
_AVERAGED = 200  # people in the mean mesh
_GRABCUT_ROUNDS = 3
_MASK_STEP = 2  # the matte is found in a picture this much smaller


@dataclasses.dataclass(frozen=True)
class Tools:
    """What all registrations share."""

    head: HeadModel
    portraits: Portraits
    pairs: Correspondence
    strips: JawStrips
    bend: np.ndarray  # (n, k) weight of each pair's displacement at each vertex

    @cached_property
    def fingerprint(self) -> int:
        """Changes with everything that registrations depend on, the code of the fit excepted."""
        total = _FORMAT
        for part in (self.bend[::97], *dataclasses.astuple(self.pairs), self.strips.share):
            total = zlib.crc32(np.ascontiguousarray(part).tobytes(), total)
        return total


@dataclasses.dataclass(frozen=True)
class Registered:
    """One portrait's head."""

    person: int
    identity: np.ndarray  # (100,)
    expression: np.ndarray  # (57,) 0 to 1
    rotation: np.ndarray  # (3, 3)
    scale: float  # px per mm
    translation: np.ndarray  # (2,) px
    displacement: np.ndarray  # (k, 3) mm, head frame: what is missing at the pairs
    landmarks: np.ndarray  # (68, 2) px
    landmarks_3d: np.ndarray  # (68, 3) mm, head frame; the jaw at the contour
    irises: np.ndarray  # (2, 5, 2) px: left, right; centre, ring
    error: float  # mm, of the fit before it was bent
    foreground: np.ndarray  # (h, w) uint8, 0 or 255: the person, at half size

    @property
    def view(self) -> View:
        return View(self.rotation, self.scale, self.translation, np.zeros(3, np.float32))

    def vertices(self, tools: Tools) -> np.ndarray:
        """Vertices (n, 3), mm, of the bent head."""
        return tools.head.vertices(self.identity, self.expression) + tools.bend @ self.displacement


def load_tools(data: Path | str) -> Tools:
    """Reads the data and pairs the meshes; takes some seconds."""
    head, portraits = load_head_model(data), load_portraits(data)
    people = portraits.split["train"][:_AVERAGED]
    pairs = find_correspondence(head, portraits, people)
    return Tools(head, portraits, pairs, jaw_strips(head), _bend(head, pairs))


def _bend(head: HeadModel, pairs: Correspondence) -> np.ndarray:
    """Smoothed Gaussian interpolation from the pairs to all vertices."""
    # Measured with mouth and eyes open, so that one lip does not drag the other along.
    expression = np.zeros(len(head.expression_names))
    for name, weight in (("jawOpen", 0.6), ("eyeWide_L", 1.0), ("eyeWide_R", 1.0)):
        expression[head.expression_index(name)] = weight
    opened = head.mean + head.expression_offsets(expression)
    centres = opened[pairs.vertices]

    def kernel(points: np.ndarray) -> np.ndarray:
        squared = (points**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * points @ centres.T
        return np.exp(-0.5 * np.maximum(squared, 0) / _WIDTH**2)

    own = kernel(centres).astype(np.float64) + _SMOOTH * np.eye(len(centres))
    return np.linalg.solve(own, kernel(opened).T.astype(np.float64)).T.astype(np.float32)


def register(tools: Tools, person: int) -> Registered:
    """Registers the head model to one portrait."""
    mesh = tools.portraits.mesh[person]
    observed = observe(mesh, tools.pairs)
    fitted = fit_head(tools.head, observed, tools.pairs.vertices)
    view = fitted.view
    vertices = tools.head.vertices(fitted.identity, fitted.expression)
    missing = (observed.points - view.project(vertices[tools.pairs.vertices])) / view.scale
    missing[:, 2] = 0
    displacement = (missing @ view.rotation).astype(np.float32)
    bent = vertices + tools.bend @ displacement
    landmarks_3d = landmarks_at_contour(tools.head, tools.strips, bent, view.rotation)
    return Registered(
        person=person,
        identity=fitted.identity,
        expression=fitted.expression,
        rotation=view.rotation.astype(np.float32),
        scale=view.scale,
        translation=view.translation.astype(np.float32),
        displacement=displacement,
        landmarks=view.project(landmarks_3d)[:, :2].astype(np.float32),
        landmarks_3d=landmarks_3d.astype(np.float32),
        irises=np.stack([mesh[start:end, :2] for start, end in _IRISES]),
        error=fitted.error,
        foreground=_foreground(tools, person, view.project(bent)),
    )


def _foreground(tools: Tools, person: int, projected: np.ndarray) -> np.ndarray:
    """Cuts the person out of the plain backdrop, starting from the head's outline."""
    image = tools.portraits.image(person)[::_MASK_STEP, ::_MASK_STEP, ::-1]
    height, width = image.shape[:2]
    points = (projected[: tools.head.triangles[tools.head.part_of("head")].max(), :2]) / _MASK_STEP
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    centre, size = points.mean(0), np.ptp(points, axis=0)
    mask = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    rows = np.arange(height)[:, None]
    columns = np.abs(np.arange(width)[None] - centre[0])
    chin = points[tools.head.landmarks[8], 1]
    body = (rows > chin) & (columns < size[0] * (0.3 + 0.7 * (rows - chin) / height))
    mask[body] = cv2.GC_PR_FGD
    cv2.fillConvexPoly(mask, hull, cv2.GC_PR_FGD)
    mask[: int(chin), :3] = mask[: int(chin), -3:] = mask[:3] = cv2.GC_BGD
    inner = tools.portraits.mesh[person, :468, :2] / _MASK_STEP
    face = cv2.convexHull(np.rint(inner).astype(np.int32))
    cv2.fillConvexPoly(mask, face, cv2.GC_FGD)
    models = np.zeros((2, 1, 65))
    cv2.setRNGSeed(person)
    cv2.grabCut(
        np.ascontiguousarray(image),
        mask,
        (0, 0, 1, 1),
        models[0],
        models[1],
        _GRABCUT_ROUNDS,
        cv2.GC_INIT_WITH_MASK,
    )
    return np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)


def register_all(
    tools: Tools,
    cache: Path | str,
    *,
    people: Iterable[int] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[int, Registered]:
    """Registers people, or reads those that an earlier run has left in the cache.

    Args:
        cache: folder for one file per person; created if need be.
        people: all by default.
        progress: called with 1 for each person done.
    """
    folder = Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for person in range(len(tools.portraits)) if people is None else people:
        path = folder / f"{int(person):04d}.npz"
        known = _load(path, tools.fingerprint) if path.is_file() else None
        if known is None:
            known = register(tools, int(person))
            _save(known, path, tools.fingerprint)
        found[int(person)] = known
        progress(1)
    return found


def _save(registered: Registered, path: Path, fingerprint: int) -> None:
    """Writes whole files only, so that an interrupted run leaves none that is cut short."""
    with AtomicFile(path) as file:
        arrays = dataclasses.asdict(registered)
        np.savez_compressed(file.stream, fingerprint=fingerprint, **arrays)
        file.commit()


def _load(path: Path, fingerprint: int) -> Registered | None:
    """Reads a file; none if it was made from other data or by another version."""
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    if int(values.pop("fingerprint", -1)) != fingerprint:
        return None
    for name, kind in (("person", int), ("scale", float), ("error", float)):
        values[name] = kind(values[name])
    return Registered(**values)
