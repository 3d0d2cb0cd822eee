"""Every stage from OpenFace's own inputs: detector, landmark fit, appearance, action units, CSV."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxface import detect_faces, read_image
from jaxface.analyze import extract_fhog
from jaxface.fit import LandmarkModel, areas_of_interest, nu_rlms, response_maps, shape_2d
from jaxface.output import write_csv
from jaxface.reference.comparison import fit_inputs, golden_faces
from jaxface.reference.comparison.clips import PREFIX, Data, golden_run, load
from jaxface.reference.comparison.figures import Figure, Subject
from jaxface.reference.comparison.golden_detections import DETECTIONS, corners
from jaxface.reference.comparison.golden_fits import ScaleRecord
from jaxface.reference.comparison.units import appearance, units_from_landmarks

_CANVAS = (640, 640)  # holds every picture but the large one, so that few programs are compiled
_FEW = ("sample1", "default_track_f030")  # stage files of a quick run


def detector_figures(data: Data) -> list[Figure]:
    """Faces of all sample images and of all pictures recorded in stage files."""
    model = load(data, "openface")
    detect = jax.jit(detect_faces)
    differing, boxes, scores, count = 0, [0.0], [0.0], 0
    for image, golden_boxes, golden_scores in _detections(data):
        canvas = np.zeros((*np.maximum(image.shape[:2], _CANVAS), 3), np.float32)
        canvas[: image.shape[0], : image.shape[1]] = image
        found = detect(model.detector, canvas, size=jnp.asarray(image.shape[:2], jnp.int32))
        count += 1
        if int(found.valid.sum()) != len(golden_boxes):
            differing += 1
            continue
        faces = len(golden_boxes)
        boxes.append(np.abs(found.boxes[:faces] - corners(golden_boxes)).max())
        scores.append(np.abs(found.scores[:faces] - golden_scores).max())
    subject = Subject("MTCNN", "all", f"{count} pictures")
    return [
        subject.at_most("pictures with another number of faces", 0, differing),
        subject.at_most("largest box error, px", 0.05, max(boxes)),
        subject.at_most("largest probability error", 1e-5, max(scores)),
    ]


def _detections(data: Data) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Picture, boxes (x y w h) and probabilities."""
    for name, rows in DETECTIONS.items():
        golden = np.array(rows)
        yield read_image(data.samples / name), golden[:, :4], golden[:, 4]
    for path in sorted((data.golden / "stages").glob("*.npz")):
        with np.load(path) as golden:
            if "mtcnn_final_boxes" not in golden.files:
                continue
            boxes, scores = golden["mtcnn_final_boxes"], golden["mtcnn_final_conf"].ravel()
        yield golden_faces.read_image(data.samples, path.stem), boxes.reshape(-1, 4), scores


@eqx.filter_jit
def _respond(experts, gray, record_landmarks, to_image, view, window: int):
    areas = areas_of_interest(gray, record_landmarks, to_image, window)
    return response_maps(experts, areas, view)


_run_pass = jax.jit(nu_rlms, static_argnames=("config", "rigid"))
_shape_2d = jax.jit(shape_2d)


def fit_figures(data: Data, kind: str, *, quick: bool = False) -> list[Figure]:
    """Response maps and optimiser passes of every recorded fit of a kind of model.

    OpenFace recorded none of CLM.
    """
    models = fit_inputs.models_of(load(data, kind).clnf)
    start = PREFIX[kind]
    names = [name for name in golden_faces.STAGES if name.startswith("ceclm_") == bool(start)]
    if quick:
        names = [name for name in names if name.removeprefix(start) in _FEW]
    maps, passes = [], []
    for name in names:
        stage = fit_inputs.read_stage(data.golden, name)
        gray, _ = fit_inputs.put_on_canvas(stage)
        for record in stage.scales():
            model = models[record.model]
            # CE-CLM shares its parts with CLNF, and they were recorded with the same code.
            maps.append(_map_errors(model, gray, record))
            passes.extend(_pass_errors(model, record))
    errors = np.concatenate(maps)
    subject = Subject("response maps", kind, f"{len(names)} stage files")
    return [
        subject.at_most("landmarks off by over 1e-5 of the peak", 0.01, np.mean(errors > 1e-5)),
        subject.at_most("largest error of a map, of the peak", 5e-3, errors.max()),
        subject.of("NU-RLMS").at_most(f"largest of {len(passes)} passes, px", 0.05, max(passes)),
    ]


def _map_errors(model: LandmarkModel, gray: jax.Array, record: ScaleRecord) -> np.ndarray:
    """Largest error of each visible landmark's map, relative to a peak over 1."""
    experts = model.experts[record.index]
    visible = np.asarray(experts.visible[record.view])
    found = _respond(
        experts, gray, record.landmarks, record.to_image, jnp.asarray(record.view), record.window
    )
    golden = record.responses[visible]
    peaks = np.maximum(golden.max(axis=(1, 2)), 1)
    return np.abs(np.asarray(found)[visible] - golden).max(axis=(1, 2)) / peaks


def _pass_errors(model: LandmarkModel, record: ScaleRecord) -> Iterator[float]:
    """Largest landmark error of the rigid and of the non-rigid pass, from golden inputs, px."""
    frame, config = fit_inputs.to_frame(model, record), fit_inputs.to_config(record)
    for start, end, rigid in (
        (record.start, record.rigid, True),
        (record.rigid, record.end, False),
    ):
        parameters = fit_inputs.to_parameters(start)
        found, _ = _run_pass(model.pdm, frame, parameters, config=config, rigid=rigid)
        expected = _shape_2d(model.pdm, fit_inputs.to_parameters(end))
        yield fit_inputs.error(_shape_2d(model.pdm, found), expected)


def appearance_figures(data: Data) -> list[Figure]:
    """Aligned faces from golden landmarks, FHOG from golden aligned faces."""
    align, fhog = jax.jit(appearance(load(data, "openface"))), jax.jit(extract_fhog)
    shares, errors = [], []
    for name in golden_faces.STAGES:
        stage = golden_faces.read_stage(data.golden, data.samples, name)
        found, _ = align(stage.image.astype(np.float32), stage.landmarks)
        shares.append(np.mean(np.abs(found - stage.aligned) <= 1))
        errors.append(np.abs(fhog(stage.aligned.astype(np.float32)) - stage.fhog).max())
    stages = Subject("alignment", "all", f"{len(shares)} stage files")
    figures = [
        stages.at_least("samples within 1 grey level, worst face", 0.999, min(shares)),
        stages.of("FHOG").at_most("largest error", 1e-5, max(errors)),
    ]
    shares, errors = [], []
    run, clip = data.golden / "image_sequence", "image_sequence"
    landmarks = golden_run(data, clip).landmarks
    for i, descriptor in enumerate(golden_faces.read_hog(run / "image_sequence.hog")):
        golden = cv2.imread(str(run / f"image_sequence_aligned/frame_det_00_{i + 1:06d}.bmp"))
        assert golden is not None
        golden = golden[..., ::-1].astype(np.float32)
        image = read_image(data.samples / clip / f"{i + 1:03d}.jpg").astype(np.float32)
        found, _ = align(image, landmarks[i])
        shares.append(np.mean(np.abs(found - golden) <= 1))
        errors.append(np.abs(fhog(golden) - descriptor).max())
    sequence = Subject("alignment", "all", clip)
    return [
        *figures,
        sequence.at_least("samples within 1 grey level, worst face", 0.999, min(shares)),
        sequence.of("FHOG").at_most("largest error", 1e-5, max(errors)),
    ]


def golden_unit_figures(data: Data, clip: str) -> list[Figure]:
    """Action units of a clip from its frames and golden landmarks, adapted and static."""
    name = Path(clip).stem
    golden = golden_run(data, name)
    found = units_from_landmarks(data, clip, golden.landmarks, golden.success)
    figures = []
    for run, (intensity, _) in zip((name, f"{name}_au_static"), found, strict=True):
        error = np.abs(intensity - golden_run(data, run).au_intensity).mean()
        subject = Subject("action units from golden landmarks", "all", run)
        figures.append(subject.at_most("mean absolute error", 0.005, error))
    return figures


def csv_figures(data: Data) -> list[Figure]:
    """The stock CSV from OpenFace's high-precision values."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_csv(Path(folder) / "default.csv", golden_run(data, "default"), kind="video")
        differing = differing_bytes(path, data.golden / "default" / "default.csv")
    return [Subject("CSV", "all", "default").at_most("differing bytes", 0, differing)]


def differing_bytes(path: Path, other: Path) -> int:
    """Number of bytes in which two files differ, counting what only one of them has."""
    found, expected = path.read_bytes(), other.read_bytes()
    pairs = zip(found, expected, strict=False)
    return sum(a != b for a, b in pairs) + abs(len(found) - len(expected))
