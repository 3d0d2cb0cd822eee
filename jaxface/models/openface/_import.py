"""Reads whole models from OpenFace's original files and imports them into the user's cache."""

from pathlib import Path, PurePosixPath

from .._model import Model, ModelInfo
from .._store import InstalledModel, ModelFileError, save_model
from ._action_units import read_analyser
from ._checksums import SHA256
from ._landmark_model import read_clnf
from ._networks import read_mtcnn
from ._source import LANDMARK, Source, shared_cache_dirs

_MAIN_FILES = {
    "openface": "main_clnf_general.txt",
    "openface-ceclm": "main_ceclm_general.txt",
    "openface-clm": "main_clm_general.txt",
}
KINDS = tuple(_MAIN_FILES)
_EXPERT_FILES = {
    kind: tuple(LANDMARK / f"patch_experts/{pattern.format(scale)}" for scale in scales)
    for kind, pattern, scales in (
        ("openface", "ccnf_patches_{}_general.txt", ("0.25", "0.35", "0.5")),
        ("openface-ceclm", "cen_patches_{}_of.dat", ("0.25", "0.35", "0.50", "1.00")),
        ("openface-clm", "svr_patches_{}_general.txt", ("0.25", "0.35", "0.5")),
    )
}
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
    source = Source(directory, cen_dir=cen_dir, allow_modified=allow_modified)
    return _read(source, kind)


def import_models(
    directory: Path | str | None = None,
    *,
    cen_dir: Path | str | None = None,
    dest: Path | None = None,
    allow_modified: bool = False,
) -> list[InstalledModel]:
    """Imports OpenFace's models: `openface`, and the others whose patch experts are there.

    Args:
        directory: as in `read_model`; None for the cache that pymtcnn, pyclnf and pyfaceau
            share ($OPENFACE_MODELS_DIR or the user data directory).
        cen_dir: as in `read_model`; makes `openface-ceclm` mandatory.
        dest: where to; the folder of installed models by default.
        allow_modified: as in `read_model`; the manifest names such files.

    Raises:
        ModelFileError: as in `read_model`, or there is no shared cache. Nothing is stored then.
    """
    if directory is None:
        directory = _find_shared_cache()
    models = []
    for kind in KINDS:
        source = Source(directory, cen_dir=cen_dir, allow_modified=allow_modified)
        experts = _EXPERT_FILES[kind]
        wanted = kind == "openface" or (kind == "openface-ceclm" and cen_dir is not None)
        if wanted or len(source.missing(experts)) < len(experts):
            models.append((_read(source, kind), source))
    return [
        save_model(model, dest, files=source.files, modified=source.modified)
        for model, source in models
    ]


def _find_shared_cache() -> Path:
    candidates = shared_cache_dirs()
    found = next((path for path in candidates if path.is_dir()), None)
    if found is None:
        listed = " or ".join(map(str, candidates))
        raise ModelFileError(
            f"No folder named, and no shared cache at {listed}. Name the folder of an OpenFace "
            f"2.2.0 checkout or installation: `jaxface models import DIR`."
        )
    return found


def _read(source: Source, kind: str) -> Model:
    """Reads one model of the kind given."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
    source.require(_required_files(kind), f"the model {kind}")
    detector = read_mtcnn(source)
    clnf = read_clnf(source, _MAIN_FILES[kind])
    analyser = read_analyser(source)
    info = ModelInfo(
        name=kind,
        source=source.describe(_MAIN_FILES[kind]),
        licence=LICENCE,
        landmark_scheme=SCHEME,
    )
    return Model(info=info, detector=detector, clnf=clnf, analyser=analyser)


def _required_files(kind: str) -> list[PurePosixPath]:
    """Files that a kind of model needs, by their path in OpenFace's repository."""
    other = tuple(
        str(LANDMARK / start) for name, starts in _ONLY.items() if name != kind for start in starts
    )
    validator = str(LANDMARK / "detection_validation/validator_cnn.txt")
    unused = (*other, validator) if kind == "openface-ceclm" else other
    files = [PurePosixPath(path) for path in SHA256 if not path.startswith(unused)]
    return files + [path for path in _EXPERT_FILES[kind] if path not in files]
