"""Finds OpenFace's original files in whatever layout they lie, and checks what they are."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import platformdirs

from .._store import ModelFileError
from ._checksums import SHA256
from ._matrices import fail

LANDMARK = PurePosixPath("lib/local/LandmarkDetector/model")
AU = PurePosixPath("lib/local/FaceAnalyser/AU_predictors")
_CEN = LANDMARK / "patch_experts"

# Where a checkout, a build, an installation and the shared cache keep the files, relative to DIR.
_PREFIXES = (
    ".",
    "build/bin",
    "bin",
    "etc/OpenFace",
    "originals",
    "2.2.0/originals",
    "OpenFaceModels/2.2.0/originals",
)
_LANDMARK_DIRS = (str(LANDMARK), "model", "LandmarkDetector/model")
_AU_DIRS = (str(AU), "AU_predictors", "FaceAnalyser/AU_predictors")
_MARKERS = ("main_clnf_general.txt", "main_dynamic_svms.txt")  # of a folder of each kind
_HOW_TO_GET = (
    "Complete the folder from OpenFace 2.2.0 (https://github.com/TadasBaltrusaitis/OpenFace), or "
    "name another one."
)
_HOW_TO_GET_CEN = (
    "The cen_patches files are a separate download (OpenFace's download_models script); where "
    "they lie in another folder, name it with --cen."
)
_MOST_LISTED = 20


def shared_cache_dirs() -> list[Path]:
    """Roots of the cache that pymtcnn, pyclnf and pyfaceau share, in order of preference."""
    roots = [Path(platformdirs.user_data_dir()) / "OpenFaceModels"]
    chosen = os.environ.get("OPENFACE_MODELS_DIR")
    return [Path(chosen), *roots] if chosen else roots


class Source:
    """OpenFace's files by their path in OpenFace's repository.

    Attributes:
        files: sha256 of every file read, by that path.
        modified: files read whose sha256 is not the one of OpenFace 2.2.0.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        cen_dir: Path | str | None = None,
        allow_modified: bool = False,
    ) -> None:
        self.directory = directory = Path(directory).expanduser()
        self._cen_dir = cen_dir = Path(cen_dir).expanduser() if cen_dir is not None else None
        self._allow_modified = allow_modified
        self.files: dict[str, str] = {}
        self.modified: list[str] = []
        for path in (directory, cen_dir):
            if path is not None and not path.is_dir():
                raise ModelFileError(
                    f"{path}: not a directory. Name the folder that holds OpenFace."
                )
        self._roots = {
            LANDMARK: _existing(directory, _LANDMARK_DIRS),
            AU: _existing(directory, _AU_DIRS),
        }
        if not any(self._roots.values()):
            raise ModelFileError(
                f"{directory}: holds no OpenFace models, expected {LANDMARK} and {AU}, or model "
                f"and AU_predictors. Name an OpenFace 2.2.0 checkout or installation."
            )

    def describe(self, main_file: str) -> str:
        """Where a model read from here comes from, in words."""
        text = f"OpenFace 2.2.0, {main_file}, from {self.directory.absolute()}"
        if self._cen_dir is not None and any("/cen_patches" in path for path in self.files):
            text += f", CEN files from {self._cen_dir.absolute()}"
        return text + (", with modified files" if self.modified else "")

    def find(self, path: PurePosixPath) -> Path | None:
        """The file on disk for a path in OpenFace's repository, or None."""
        candidates = []
        if self._cen_dir is not None and path.parent == _CEN and path.name.startswith("cen_"):
            inside = (".", "patch_experts", "model/patch_experts", str(_CEN))
            candidates += [self._cen_dir / folder / path.name for folder in inside]
        for base, roots in self._roots.items():
            if path.is_relative_to(base):
                candidates += [root / path.relative_to(base) for root in roots]
        return next((found for found in candidates if found.is_file()), None)

    def missing(self, paths: Iterable[PurePosixPath]) -> list[PurePosixPath]:
        """Those of `paths` that are not there."""
        return [path for path in paths if self.find(path) is None]

    def require(self, paths: Iterable[PurePosixPath], what: str) -> None:
        """Raises ModelFileError that lists the files of `what` that are not there."""
        missing = self.missing(paths)
        if not missing:
            return
        lines = [f"  {path}" for path in missing[:_MOST_LISTED]]
        if len(missing) > _MOST_LISTED:
            lines.append(f"  and {len(missing) - _MOST_LISTED} more")
        cen = [_HOW_TO_GET_CEN] if any(path.name.startswith("cen_") for path in missing) else []
        raise ModelFileError(
            "\n".join(
                [
                    f"{self.directory}: {len(missing)} of the files of {what} are missing:",
                    *lines,
                    _HOW_TO_GET,
                    *cen,
                ]
            )
        )

    def locate(self, path: PurePosixPath) -> Path:
        """The file on disk for a path in OpenFace's repository; raises where there is none."""
        found = self.find(path)
        if found is None:
            raise ModelFileError(f"{self.directory}: {path} is missing. {_HOW_TO_GET}")
        return found

    def read(self, path: PurePosixPath) -> tuple[Path, bytes]:
        """File on disk and its bytes, after the check of its sha256."""
        found = self.locate(path)
        data = found.read_bytes()
        if not data:
            raise fail(found, "is empty")
        digest = hashlib.sha256(data).hexdigest()
        self.files[str(path)] = digest
        known = SHA256.get(str(path))
        if known not in (None, digest) and known != _sha256_of_lines(data):
            if not self._allow_modified:
                raise fail(
                    found,
                    f"is not the file of OpenFace 2.2.0: expected sha256 {known}, found {digest} "
                    f"({len(data)} bytes); if it is meant to differ, pass --allow-modified",
                )
            self.modified.append(str(path))
        return found, data


def _existing(directory: Path, layouts: tuple[str, ...]) -> list[Path]:
    """Folders of one kind under `directory`, which may also be such a folder itself."""
    bases = [directory]
    if any((directory / marker).is_file() for marker in _MARKERS):
        bases += list(directory.absolute().parents)[:4]
    roots = [base / prefix / layout for base in bases for prefix in _PREFIXES for layout in layouts]
    return [root for root in dict.fromkeys(roots) if root.is_dir()]


def _sha256_of_lines(data: bytes) -> str:
    """sha256 of a text file as checked out without Windows line ends."""
    return hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
