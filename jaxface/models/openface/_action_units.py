"""Reads action-unit models: linear SVR intensities and SVM decisions (specification 03, 0.2)."""

from pathlib import PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Float64

from ...analyze import ActionUnits, FaceAnalyser, LinearHeads
from ...fit import PDM
from ._landmark_model import read_directives, read_pdm
from ._matrices import Array, BinaryReader, fail
from ._source import AU, Source

FEATURES = 4464 + 238  # FHOG, geometry
_SVR_STATIC, _SVR_DYNAMIC, _SVM_STATIC, _SVM_DYNAMIC = 0, 1, 4, 5
_INTENSITY = (_SVR_STATIC, _SVR_DYNAMIC)
_DYNAMIC = (_SVR_DYNAMIC, _SVM_DYNAMIC)


def read_analyser(source: Source) -> FaceAnalyser:
    """Reads the video and the image models of the action units.

    Raises:
        ModelFileError: a file is missing, damaged or of a kind OpenFace's programs do not use.
    """
    video, pdm = _read_main(source, AU / "main_dynamic_svms.txt")
    image, image_pdm = _read_main(source, AU / "main_static_svms.txt")
    if not np.array_equal(pdm.mean_shape, image_pdm.mean_shape):
        raise fail(source.directory / AU, "expected one PDM for video and image models")
    return FaceAnalyser(pdm=pdm, video=video, image=image)


def _read_main(source: Source, path: PurePosixPath) -> tuple[ActionUnits, PDM]:
    directives = {word: words for word, words in read_directives(source, path)}
    for word in ("AUPredictor", "PDM"):
        if len(directives.get(word, [])) != 1:
            raise fail(source.locate(path), f"expected a line `{word} FILE`")
    units = _read_list(source, path.parent / directives["AUPredictor"][0])
    return units, read_pdm(source, path.parent / directives["PDM"][0])


def _read_list(source: Source, path: PurePosixPath) -> ActionUnits:
    """Reads all heads that a list names; all must share one feature mean."""
    heads: dict[bool, dict[str, dict]] = {True: {}, False: {}}
    mean = None
    for file, words in read_directives(source, path):
        if len(words) != 1:
            raise fail(
                source.locate(path), f"expected `FILE AU` in every line, found {file} {words}"
            )
        head = _read_head(source, path.parent / file)
        mean = head["mean"] if mean is None else mean
        if not np.array_equal(mean, head["mean"]):
            raise fail(source.locate(path.parent / file), "means: differ from the other heads")
        for name in words[0].split(","):
            heads[head["kind"] in _INTENSITY][name] = head
    if mean is None or not heads[True] or not heads[False]:
        raise fail(source.locate(path), "expected intensity and presence heads")
    return ActionUnits(
        mean=jnp.asarray(mean.astype(np.float32)),
        intensity=_stack_heads(heads[True]),
        presence=_stack_heads(heads[False]),
    )


def _read_head(source: Source, path: PurePosixPath) -> dict:
    reader = BinaryReader(*source.read(path))
    kind = reader.int32("model type")
    if kind not in (_SVR_STATIC, _SVR_DYNAMIC, _SVM_STATIC, _SVM_DYNAMIC):
        raise fail(reader.path, f"model type: expected 0, 1, 4 or 5, found {kind}")
    # Only the dynamic regressors are calibrated; -1 stands for no calibration.
    cutoff = reader.number("cutoff") if kind == _SVR_DYNAMIC else -1.0
    mean: Float64[Array, "1 d"] = reader.matrix("means", types=(6,), shape=(1, FEATURES))
    weights: Float64[Array, "d 1"] = reader.matrix("weights", types=(6,), shape=(FEATURES, 1))
    bias = reader.number("bias")
    positive = negative = 1.0
    if kind not in _INTENSITY:
        positive, negative = reader.number("positive label"), reader.number("negative label")
        if {positive, negative} != {0.0, 1.0}:
            raise fail(reader.path, f"labels: expected 0 and 1, found {positive}, {negative}")
    reader.finish()
    return {
        "kind": kind,
        "cutoff": cutoff,
        "mean": mean[0],
        "weights": weights[:, 0],
        "bias": bias,
        "positive": positive,
        "negative": 0.0 if kind in _INTENSITY else negative,
    }


def _stack_heads(heads: dict[str, dict]) -> LinearHeads:
    names = tuple(sorted(heads))

    def stack(field: str) -> Float32[jax.Array, "u ..."]:
        return jnp.asarray(np.array([heads[name][field] for name in names], np.float32))

    return LinearHeads(
        names=names,
        weights=stack("weights"),
        bias=stack("bias"),
        dynamic=jnp.asarray(np.array([heads[name]["kind"] in _DYNAMIC for name in names], bool)),
        cutoff=stack("cutoff"),
        positive=stack("positive"),
        negative=stack("negative"),
    )
