"""Reads a landmark model through its main file and sub-files (specification 02, A.1 and A.2)."""

import dataclasses
from pathlib import PurePosixPath

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from ...fit import (
    CLNF,
    OPENFACE_FIT,
    OPENFACE_WILD_FIT,
    PDM,
    AbstractPatchExperts,
    CENExperts,
    LandmarkModel,
    OneRound,
    Part,
    PartConfig,
    TwoRounds,
    ceclm_settings,
)
from ...types import MULTI_PIE_68
from ._experts import read_ccnf, read_cen, read_svr
from ._matrices import Array, TextReader, fail
from ._networks import read_validator
from ._source import AU, LANDMARK, Source

# Specification 02, D.1. The eyes' third window is never used: they have two scales.
_EYE = PartConfig(windows=(3, 5), sigma=1.0, regularisation=0.5, weight_factor=0.0)
_PARTS = {
    "inner": PartConfig(windows=(9,), sigma=1.75, regularisation=2.5, weight_factor=2.5),
    "left_eye_28": _EYE,
    "right_eye_28": _EYE,
}
# In this order each kind overrides those before it.
_EXPERTS = {"PatchesIntensity": read_svr, "PatchesCCNF": read_ccnf, "PatchesCEN": read_cen}

Directives = list[tuple[str, list[str]]]


def read_clnf(source: Source, main_file: str) -> CLNF:
    """Reads a main landmark model, its parts and its validator.

    Args:
        main_file: name of the main file, e.g. `main_clnf_general.txt`.

    Raises:
        ModelFileError: a file is missing, damaged or not what its place demands.
    """
    path = LANDMARK / main_file
    directives = read_directives(source, path)
    model, search = _read_landmark_model(
        source, _only(source, path, directives, "LandmarkDetector")
    )
    parts = [
        _read_part(source, path, words, model)
        for word, words in directives
        if word == "LandmarkDetector_part"
    ]
    validator = _only(source, path, directives, "DetectionValidator")
    settings = OPENFACE_FIT, OPENFACE_WILD_FIT
    if isinstance(model.experts[0], CENExperts):
        settings = tuple(ceclm_settings(config) for config in settings)
    return CLNF(
        main=model,
        parts=tuple(parts),
        validator=read_validator(source, validator),
        search=search,
        scheme=dataclasses.replace(MULTI_PIE_68, triangles=_read_triangles(source)),
        config=settings[0],
        wild=settings[1],
    )


def read_directives(source: Source, path: PurePosixPath) -> Directives:
    """Reads the lines of a main file or sub-file: first word, other words."""
    found, data = source.read(path)
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise fail(found, f"expected a text file ({error})") from error
    words = [line.split() for line in lines if line.strip()]
    return [(line[0], line[1:]) for line in words]


def _only(source: Source, path: PurePosixPath, directives: Directives, name: str) -> PurePosixPath:
    """The file that the one directive of this name points to."""
    values = [words for word, words in directives if word == name]
    if len(values) != 1 or not values[0]:
        raise fail(source.locate(path), f"expected one line `{name} FILE`, found {len(values)}")
    return path.parent / values[0][0]


def _read_landmark_model(
    source: Source, path: PurePosixPath
) -> tuple[LandmarkModel, OneRound | TwoRounds]:
    directives = read_directives(source, path)
    pdm = read_pdm(source, _only(source, path, directives, "PDM"))
    landmarks = len(pdm.mean_shape)
    files = {
        kind: [path.parent / words[0] for word, words in directives if word == kind and words]
        for kind in _EXPERTS
    }
    present = [kind for kind, paths in files.items() if paths]
    if not present:
        raise fail(source.locate(path), f"expected patch experts, one of {sorted(_EXPERTS)}")
    experts = tuple(_EXPERTS[present[-1]](source, file, landmarks) for file in files[present[-1]])
    search = OneRound()
    if any(word == "EarlyTermination" for word, _ in directives):
        file = _only(source, path, directives, "EarlyTermination")
        search = _read_early_termination(source, file, experts[0])
    return LandmarkModel(pdm=pdm, experts=experts), search


def read_pdm(source: Source, path: PurePosixPath) -> PDM:
    """Reads a point distribution model.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    reader = TextReader(*source.read(path))
    mean = reader.matrix("mean shape", types=(6,), shape=(None, 1))
    if len(mean) == 0 or len(mean) % 3:
        raise fail(reader.path, f"mean shape: expected 3n values, found {len(mean)}")
    components = reader.matrix("principal components", types=(6,), shape=(len(mean), None))
    modes = components.shape[1]
    eigenvalues = reader.matrix("eigenvalues", types=(6,), shape=(1, modes))[0]
    reader.finish()
    if (eigenvalues <= 0).any():
        raise fail(reader.path, "eigenvalues: expected positive numbers")
    return PDM(
        mean_shape=jnp.asarray(_by_point(mean.T)[0]),
        components=jnp.asarray(_by_point(components.T)),
        eigenvalues=jnp.asarray(eigenvalues.astype(np.float32)),
    )


def _by_point(planar: Array) -> Float32[Array, "m n 3"]:
    """Turns rows of all x, all y, all z into points."""
    rows = planar.astype(np.float32).reshape(len(planar), 3, -1)
    return np.ascontiguousarray(rows.swapaxes(1, 2))


def _read_early_termination(
    source: Source, path: PurePosixPath, experts: AbstractPatchExperts
) -> TwoRounds:
    reader = TextReader(*source.read(path))
    views = len(experts.centres)
    rows = reader.numbers(3 * views, f"weights, biases and cut-offs of {views} views")
    reader.finish()
    weights, biases, cutoffs = jnp.asarray(rows.astype(np.float32).reshape(3, views))
    return TwoRounds(weights=weights, biases=biases, cutoffs=cutoffs)


def _read_part(source: Source, main: PurePosixPath, words: list[str], model: LandmarkModel) -> Part:
    found = source.locate(main)
    if len(words) < 4 or len(words) % 2 or not all(word.isdigit() for word in words[2:]):
        raise fail(found, "LandmarkDetector_part: expected FILE NAME and pairs of indices")
    name = words[1]
    if name not in _PARTS:
        raise fail(found, f"LandmarkDetector_part: expected {sorted(_PARTS)}, found {name}")
    path = main.parent / words[0]
    directives = read_directives(source, path)
    part, _ = _read_landmark_model(source, _only(source, path, directives, "LandmarkDetector"))
    indices = tuple(int(word) for word in words[2:])
    main_points, part_points = indices[::2], indices[1::2]
    if max(main_points) >= len(model.pdm.mean_shape) or max(part_points) >= len(
        part.pdm.mean_shape
    ):
        raise fail(found, f"LandmarkDetector_part {name}: an index is beyond the landmarks")
    config = _PARTS[name]
    if len(part.experts) != len(config.windows):
        raise fail(
            found,
            f"part {name}: expected {len(config.windows)} patch files, found {len(part.experts)}",
        )
    return Part(
        name=name, config=config, main_points=main_points, part_points=part_points, model=part
    )


def _read_triangles(source: Source) -> tuple[tuple[int, int, int], ...]:
    """Reads the triangulation of the 68 landmarks that face analysis uses."""
    reader = TextReader(*source.read(AU / "tris_68_full.txt"))
    triangles = reader.matrix("triangles", types=(4,), shape=(None, 3))
    reader.finish()
    if triangles.size == 0 or triangles.min() < 0 or triangles.max() >= 68:
        raise fail(reader.path, "triangles: expected landmark indices from 0 to 67")
    return tuple((int(a), int(b), int(c)) for a, b, c in triangles)
