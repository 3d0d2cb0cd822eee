"""Reads whole models from OpenFace's original files and imports them into the user's cache."""

from pathlib import Path, PurePosixPath

import jax
import jax.numpy as jnp

from .._model import Model, ModelInfo
from ._action_units import read_analyser
from ._checksums import SHA256
from ._landmark_model import read_clnf
from ._networks import read_mtcnn
from ._source import LANDMARK, Source

_MAIN_FILES = {
    "openface": "main_clnf_general.txt",
    "openface-ceclm": "main_ceclm_general.txt",
    "openface-clm": "main_clm_general.txt",
}
KINDS = tuple(_MAIN_FILES)
_CEN_FILES = tuple(
    LANDMARK / f"patch_experts/cen_patches_{scale}_of.dat"
    for scale in ("0.25", "0.35", "0.50", "1.00")
)
LICENCE = "OpenFace (CMU): academic or non-profit noncommercial research only, no redistribution"
SCHEME = "multi-pie-68"

# Files of the landmark detector that only one kind of model needs, by the start of their names.
_ONLY = {
    "openface": (
        "main_clnf_general",
        "clnf_general",
        "model_inner/",
        "patch_experts/ccnf_",
    ),
    "openface-ceclm": (
        "main_ceclm_general",
        "cen_general",
        "early_term_cen_of",
        "detection_validation/validator_cnn_68",
    ),
    "openface-clm": ("main_clm_general", "clm_general", "patch_experts/svr_"),
}


def read_model(
    directory: Path | str,
    kind: str = "openface",
    *,
    cen_dir: Path | str | None = None,
    allow_modified: bool = False,
) -> Model:
    """Reads one model from OpenFace's original files.

    Args:
        directory: an OpenFace checkout, build or installation, or the cache of originals.
        kind: `openface` (CLNF), `openface-ceclm` (CE-CLM) or `openface-clm` (CLM with SVRs).
        cen_dir: folder of the four `cen_patches_*_of.dat` where they do not lie in `directory`.
        allow_modified: accept files whose sha256 is not the one of OpenFace 2.2.0.

    Raises:
        ModelFileError: files are missing, damaged or not those of OpenFace 2.2.0.
        ValueError: `kind` is unknown.
    """
    source = open_source(directory, cen_dir=cen_dir, allow_modified=allow_modified)
    return read_from(source, kind)


def open_source(
    directory: Path | str, *, cen_dir: Path | str | None, allow_modified: bool
) -> Source:
    """The files under a directory; arguments as in `read_model`."""
    cen = Path(cen_dir).expanduser() if cen_dir is not None else None
    return Source(Path(directory).expanduser(), cen_dir=cen, allow_modified=allow_modified)


def read_from(source: Source, kind: str) -> Model:
    """Reads one model of the kind given."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
    source.require(required_files(kind), f"the model {kind}")
    model = Model(
        info=ModelInfo(
            name=kind,
            source=f"OpenFace 2.2.0, {_MAIN_FILES[kind]}, from {source.directory.absolute()}",
            licence=LICENCE,
            landmark_scheme=SCHEME,
        ),
        detector=read_mtcnn(source),
        clnf=read_clnf(source, _MAIN_FILES[kind]),
        analyser=read_analyser(source),
    )
    return jax.tree.map(jnp.asarray, model)


def required_files(kind: str) -> list[PurePosixPath]:
    """Files that a kind of model needs, by their path in OpenFace's repository."""
    other = tuple(
        str(LANDMARK / start) for name, starts in _ONLY.items() if name != kind for start in starts
    )
    validator = str(LANDMARK / "detection_validation/validator_cnn.txt")
    unused = (*other, validator) if kind == "openface-ceclm" else other
    files = [PurePosixPath(path) for path in SHA256 if not path.startswith(unused)]
    return files + list(_CEN_FILES if kind == "openface-ceclm" else ())
