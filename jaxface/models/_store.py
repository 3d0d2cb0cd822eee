"""Stores models as one safetensors file and a JSON manifest each, and loads them.

The manifest names source, licence, sha256, landmark scheme and action units, and describes the
tree of Modules whose arrays lie in the safetensors file. Nothing is pickled: only the Modules
listed here can be built from a file.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import safetensors
import safetensors.numpy

from .._files import cache_dir, replace_file
from ..analyze import ActionUnits, AlignConfig, FaceAnalyser, LinearHeads
from ..detect import MTCNN, Conv, Dense, DetectConfig, MaxPool, Net, PReLU
from ..errors import refuse_fork
from ..fit import (
    BFGS,
    CLNF,
    PDM,
    Adam,
    CCNFExperts,
    CENExperts,
    FaceWarp,
    FitConfig,
    GaussNewton,
    Guided,
    Implicit,
    LandmarkModel,
    LevenbergMarquardt,
    OneRound,
    Part,
    PartConfig,
    ShapeRegressor,
    SVRExperts,
    TwoRounds,
    Validator,
)
from ..types import EyeParts, LandmarkScheme
from ._model import Model, ModelInfo, default_config, prepare_model, strip_model
from ._prepared import kept_model
from ._upgrade import upgrade

FORMAT = 3  # of the manifest; raise it with every change that old files do not survive
_UPGRADED = 2  # the format that `upgrade` reads
_CLASSES = {
    cls.__name__: cls
    for cls in (
        *(Model, ModelInfo, MTCNN, DetectConfig, Net, Conv, PReLU, Dense, MaxPool),
        *(CLNF, FitConfig, LandmarkModel, Part, PartConfig, PDM, LandmarkScheme, EyeParts),
        *(OneRound, TwoRounds, Guided, ShapeRegressor, Validator, FaceWarp),
        *(CCNFExperts, SVRExperts, CENExperts),
        *(GaussNewton, LevenbergMarquardt, BFGS, Adam, Implicit),
        *(FaceAnalyser, AlignConfig, ActionUnits, LinearHeads),
    )
}
_IMPORT = "Import it with `jaxface models import DIR`."
_AGAIN = (
    "Import the model again with `jaxface models import DIR`; if it is base, reinstall jaxface."
)


class ModelFileError(ValueError):
    """A model file is missing, damaged or not what was expected; the message says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledModel:
    """What the manifest of an installed model says."""

    name: str
    path: Path  # the safetensors file
    source: str
    licence: str
    landmark_scheme: str
    action_units: tuple[str, ...]  # presence heads, in alphabetical order
    modified: tuple[str, ...]  # source files that are not the known ones
    sha256: str

    @property
    def shipped(self) -> bool:
        """Whether it came with jaxface itself."""
        return self.path.parent == shipped_dir()


def models_dir() -> Path:
    """Folder of the installed models: `models` in $JAXFACE_CACHE_DIR or in the user's cache."""
    return cache_dir() / "models"


def shipped_dir() -> Path:
    """Folder of the models that come with jaxface: in the wheel, or `params/` of the repository."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "params"
    return inside if inside.is_dir() else package.parent / "params"


def save_model(
    model: Model,
    directory: Path | None = None,
    *,
    files: Mapping[str, str] | None = None,
    modified: Sequence[str] = (),
) -> InstalledModel:
    """Stores a model as `<name>.safetensors` and `<name>.json`; replaces an older one.

    Args:
        directory: where to; the folder of installed models by default.
        files: sha256 of the files it was made from, by path.
        modified: those of them that are not the known ones.

    Raises:
        TypeError: the model holds something other than known Modules, arrays and plain values.
    """
    folder = models_dir() if directory is None else directory
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    structure = _encode(strip_model(model), "", tensors)
    stored = folder / f"{model.info.name}.safetensors"
    data = safetensors.numpy.save(tensors)
    manifest = {
        "format": FORMAT,
        **dataclasses.asdict(model.info),
        "action_units": sorted(model.analyser.video.presence.names),
        "sha256": hashlib.sha256(data).hexdigest(),
        "files": dict(files or {}),
        "modified": list(modified),
        "structure": structure,
    }
    replace_file(stored, data)
    replace_file(stored.with_suffix(".json"), json.dumps(manifest, indent=1).encode())
    return _record(stored, manifest)


def write_module(module: eqx.Module, path: Path) -> None:
    """Stores one Module, such as a trained network of a model, in one safetensors file.

    Args:
        path: its folder must exist; an older file is replaced.

    Raises:
        TypeError: it holds something other than known Modules, arrays and plain values.
    """
    tensors: dict[str, np.ndarray] = {}
    structure = json.dumps(_encode(module, "", tensors))
    metadata = {"format": str(FORMAT), "structure": structure}
    replace_file(path, safetensors.numpy.save(tensors, metadata=metadata))


def read_module(path: Path) -> Any:
    """Reads a Module that `write_module` has stored.

    Raises:
        ModelFileError: the file is missing or damaged, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
            found = metadata.get("format")
            if found not in (str(FORMAT), str(_UPGRADED)):
                raise ModelFileError(
                    f"{path}: expected format {FORMAT}, found {found}. Train it again."
                )
            structure = json.loads(metadata["structure"])
            if found != str(FORMAT):
                structure = upgrade(structure, tensors.get_tensor)
            return _decode(structure, tensors)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: is missing or damaged ({error}). Train it again.") from error


def load_model(name_or_path: str | Path = "base", *, wild: bool = False) -> Model:
    """Loads a model; by default the one that comes with jaxface.

    It is prepared as `prepare_model` does it, once: what that gives is kept in `prepared` beside
    the folder of installed models, and mapped into memory the next time.

    Args:
        name_or_path: name of a model (`jaxface models list`), or path of a `.safetensors` file
            with its manifest beside it.
        wild: prepare it also for the settings for difficult still images.

    Raises:
        ModelFileError: there is no such model, or its files are damaged.
        ForkError: the process was forked after JAX had been used.
    """
    refuse_fork("load_model")
    path = _resolve(name_or_path)
    manifest = _read_manifest(path)
    _check_digest(path, manifest)

    def prepare() -> Model:
        model = prepare_model(_decode_model(path, manifest))
        return prepare_model(model, default_config(model, wild=True)) if wild else model

    contents = f"{wild} {json.dumps(manifest)}".encode()  # with the weights' digest
    return kept_model(cache_dir() / "prepared", path.stem, contents, prepare)


def model_digest(name_or_path: str | Path = "base") -> str:
    """sha256 of a model's weights, as its manifest gives it.

    Args:
        name_or_path: as `load_model` takes it.
    Raises:
        ModelFileError: there is no such model, or its manifest is damaged.
    """
    return _read_manifest(_resolve(name_or_path))["sha256"]


def installed_models(directory: Path | None = None) -> list[InstalledModel]:
    """What comes with jaxface and what is installed, by name. Reads the manifests only.

    Args:
        directory: this folder's models alone.

    Raises:
        ModelFileError: a manifest is damaged.
    """
    stored: dict[str, Path] = {}
    for folder in _folders() if directory is None else (directory,):
        for path in folder.glob("*.safetensors"):
            if path.with_suffix(".json").is_file():
                stored.setdefault(path.stem, path)
    records = [_record(path, _read_manifest(path)) for path in stored.values()]
    return sorted(records, key=lambda m: m.name)


def _folders() -> tuple[Path, Path]:
    """Where models are looked for by name; what was installed never hides what was shipped."""
    return shipped_dir(), models_dir()


def _resolve(name_or_path: str | Path) -> Path:
    """The safetensors file of a model given by name or path."""
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, str) and path.name == name_or_path and not path.suffix:
        for folder in _folders():
            if (path := folder / f"{name_or_path}.safetensors").is_file():
                return path
        found = {path.stem for folder in _folders() for path in folder.glob("*.safetensors")}
        raise ModelFileError(
            f"No model {name_or_path!r} in {models_dir()} "
            f"(installed: {', '.join(sorted(found)) or 'none'}). {_IMPORT}"
        )
    if path.is_dir():
        raise ModelFileError(
            f"{path}: is a folder, expected a .safetensors file. To use OpenFace's original "
            f'files: `jaxface models import {path}`, then `load_model("openface")`.'
        )
    if path.suffix == ".json":
        path = path.with_suffix(".safetensors")
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelFileError(f"{path}: expected a .safetensors file. {_IMPORT}")
    return path


def _check_digest(path: Path, manifest: Mapping[str, Any]) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != manifest["sha256"]:
        raise ModelFileError(
            f"{path}: is damaged: the manifest gives sha256 {manifest['sha256']}, found {digest}. "
            f"{_again(path)}"
        )


def _decode_model(path: Path, manifest: Mapping[str, Any]) -> Model:
    """Rebuilds a model from a safetensors file and the manifest that lies beside it."""
    try:
        with safetensors.safe_open(path, framework="numpy") as tensors:
            structure = manifest["structure"]
            if manifest["format"] != FORMAT:
                structure = upgrade(structure, tensors.get_tensor)
            model = _decode(structure, tensors)
    except (AttributeError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ModelFileError(
            f"{path.with_suffix('.json')}: does not describe {path.name} ({error}). {_again(path)}"
        ) from error
    if not isinstance(model, Model):
        raise ModelFileError(
            f"{path}: expected a Model, found {type(model).__name__}. {_again(path)}"
        )
    return model


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest beside a safetensors file, with all keys there."""
    manifest_path = path.with_suffix(".json")
    try:
        manifest = json.loads(manifest_path.read_bytes())
        found = manifest["format"]
        missing = {field.name for field in dataclasses.fields(InstalledModel)} - {"path"}
        missing = (missing | {"structure"}) - set(manifest)
    except FileNotFoundError as error:
        raise ModelFileError(f"{manifest_path}: the manifest is missing. {_again(path)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{manifest_path}: the manifest is damaged ({error!r}). {_again(path)}"
        ) from error
    if found not in (FORMAT, _UPGRADED):
        raise ModelFileError(
            f"{manifest_path}: expected format {FORMAT}, found {found}. {_again(path)}"
        )
    if missing:
        raise ModelFileError(
            f"{manifest_path}: the manifest lacks {sorted(missing)}. {_again(path)}"
        )
    return manifest


def _record(path: Path, manifest: Mapping[str, Any]) -> InstalledModel:
    return InstalledModel(
        name=manifest["name"],
        path=path,
        source=manifest["source"],
        licence=manifest["licence"],
        landmark_scheme=manifest["landmark_scheme"],
        action_units=tuple(manifest["action_units"]),
        modified=tuple(manifest["modified"]),
        sha256=manifest["sha256"],
    )


def _again(path: Path) -> str:
    """What to do about a damaged model."""
    if path.parent == shipped_dir():
        return "It comes with jaxface: install that again."
    return "Import the model again with `jaxface models import DIR`."


def _encode(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Describes `value` in JSON; its arrays go to `tensors` under their path in the tree."""
    if isinstance(value, jax.Array | np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
        return {"tensor": name}
    if type(value).__name__ in _CLASSES:
        prefix = f"{name}." if name else ""
        fields = {
            field.name: _encode(getattr(value, field.name), prefix + field.name, tensors)
            for field in dataclasses.fields(value)
        }
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, tuple):
        return [_encode(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(
        f"{name}: cannot store a {type(value).__name__}: a model file holds the package's own "
        "Modules and records; keep what you have added in your own code, and add it after loading"
    )


def _decode(described: Any, tensors: safetensors.safe_open) -> Any:
    """The inverse of `_encode`."""
    if isinstance(described, list):
        return tuple(_decode(item, tensors) for item in described)
    if not isinstance(described, dict):
        return described
    if "tensor" in described:
        values = tensors.get_tensor(described["tensor"])
        # Half precision saves space in files; nothing is computed in it.
        values = values.astype(np.float32) if values.dtype == np.float16 else values
        return jax.device_put(values)  # jnp.asarray would compile a copy for every shape: 90 MB
    fields = {name: _decode(value, tensors) for name, value in described["fields"].items()}
    return _CLASSES[described["class"]](**fields)
