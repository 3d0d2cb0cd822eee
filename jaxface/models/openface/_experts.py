"""Readers of patch-expert files: CCNF, SVR and CEN (specification 02, A.5 to A.7)."""

from pathlib import PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int

from ...fit import CCNFExperts, CENExperts, SVRExperts, sigma_components
from ._matrices import Array, BinaryReader, Reader, TextReader, fail
from ._networks import read_centre
from ._source import Source

_SUPPORT = 11
_ACTIVATIONS = {0: "sigmoid", 2: "relu"}  # any other code is none
_FLOAT = (5, 6)


def read_ccnf(source: Source, path: PurePosixPath, landmarks: int) -> CCNFExperts:
    """Reads one scale of CCNF experts.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    reader = BinaryReader(*source.read(path))
    scale = _read_scale(reader)
    centres, visible = _read_views(reader, landmarks)
    components = _read_sigma_components(reader)
    count = next(iter(components.values()), 0)
    patches = [
        _read_ccnf_patch(reader, f"view {v}, landmark {i}", bool(visible[v, i]), count)
        for v in range(len(centres))
        for i in range(landmarks)
    ]
    reader.finish()
    grid = visible.shape

    def stack(name: str) -> Float32[jax.Array, "v n ..."]:
        found = [patch[name] for patch in patches]
        stacked = np.zeros((len(found), *max(each.shape for each in found)), np.float32)
        for index, each in enumerate(found):
            stacked[index, : len(each)] = each
        return jnp.asarray(stacked.reshape(*grid, *stacked.shape[1:]))

    return CCNFExperts(
        scale=scale,
        component_windows=tuple(window for window, found in components.items() if found),
        centres=jnp.asarray(centres),
        visible=jnp.asarray(visible),
        weights=stack("weights"),
        bias=stack("bias"),
        alpha=stack("alpha"),
        beta=stack("beta").reshape(*grid, count),
        confidence=stack("confidence").reshape(grid),
    )


def _read_scale(reader: Reader) -> float:
    scale = reader.number("scale")
    if not 0 < scale <= 16:
        raise fail(reader.path, f"scale: expected a number from 0 to 16, found {scale}")
    return scale


def _read_views(reader: Reader, landmarks: int) -> tuple[Float32[Array, "v 3"], Bool[Array, "v n"]]:
    """Reads the number of views, their centres and the visibility of the landmarks."""
    views = reader.count("number of views", most=100)
    if views == 0:
        raise fail(reader.path, "number of views: expected at least 1, found 0")
    centres = np.stack([read_centre(reader, f"view {v}") for v in range(views)])
    visible = [
        reader.matrix(f"view {v}: visibility", types=(4,), shape=(landmarks, 1))[:, 0]
        for v in range(views)
    ]
    if not np.isin(visible, (0, 1)).all():
        raise fail(reader.path, "visibility: expected 0 or 1")
    return centres, np.array(visible, bool)


def _read_sigma_components(reader: BinaryReader) -> dict[int, int]:
    """Number of Sigma components by window; their values must be the known closed form."""
    counts = {}
    for _ in range(reader.count("number of windows", most=100)):
        window = reader.count("window", most=100)
        count = reader.count(f"window {window}: number of components", most=100)
        if count not in (0, 3):
            raise fail(reader.path, f"window {window}: expected 0 or 3 components, found {count}")
        shape = (window**2, window**2)
        for index in range(count):
            what = f"window {window}: component {index}"
            found = reader.matrix(what, types=(5,), shape=shape)
            if not np.array_equal(found, sigma_components(window)[index]):
                raise fail(reader.path, f"{what}: differs from the components of OpenFace 2.2.0")
        counts[window] = count
    if len(set(counts.values())) > 1:
        raise fail(reader.path, "expected the same number of Sigma components for every window")
    return counts


def _read_ccnf_patch(reader: BinaryReader, what: str, visible: bool, components: int) -> dict:
    reader.expect(5, f"{what}: type")
    reader.expect(_SUPPORT, f"{what}: width")
    reader.expect(_SUPPORT, f"{what}: height")
    neurons = reader.count(f"{what}: number of neurons", most=100)
    if (neurons > 0) != visible:
        raise fail(reader.path, f"{what}: {neurons} neurons do not agree with the visibility")
    patch = {
        "weights": np.zeros((neurons, _SUPPORT, _SUPPORT), np.float32),
        "bias": np.zeros(neurons, np.float32),
        "alpha": np.zeros(neurons, np.float32),
        "beta": np.zeros(components, np.float32),
        "confidence": np.zeros(1, np.float32),
    }
    if not neurons:
        reader.expect(0, f"{what}: end of an invisible landmark")
        return patch
    for k in range(neurons):
        where = f"{what}, neuron {k}"
        reader.expect(2, f"{where}: word")
        reader.expect(0, f"{where}: type")
        norm = reader.number(f"{where}: norm")
        patch["bias"][k] = reader.number(f"{where}: bias")
        patch["alpha"][k] = reader.number(f"{where}: alpha")
        weights = reader.matrix(f"{where}: weights", types=(5,), shape=(_SUPPORT, _SUPPORT))
        # OpenFace multiplies in float64 and rounds once.
        patch["weights"][k] = norm * weights.astype(np.float64)
    for b in range(components):
        patch["beta"][b] = reader.number(f"{what}: beta")
    patch["confidence"][0] = reader.number(f"{what}: confidence")
    return patch


def read_svr(source: Source, path: PurePosixPath, landmarks: int) -> SVRExperts:
    """Reads one scale of SVR experts, a text file.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    reader = TextReader(*source.read(path))
    scale = _read_scale(reader)
    centres, visible = _read_views(reader, landmarks)
    grid = (*visible.shape, 2)
    weights = np.zeros((*grid, _SUPPORT, _SUPPORT), np.float32)
    numbers = np.zeros((*grid, 3), np.float32)
    for v, i in np.ndindex(*visible.shape):
        what = f"view {v}, landmark {i}"
        reader.expect(3, f"{what}: type")
        reader.expect(_SUPPORT, f"{what}: width")
        reader.expect(_SUPPORT, f"{what}: height")
        reader.expect(2, f"{what}: number of modalities")
        for modality in range(2):
            where = f"{what}, modality {modality}"
            reader.expect(2, f"{where}: word")
            reader.expect(modality, f"{where}: type")
            numbers[v, i, modality] = reader.numbers(3, where)
            shape = (_SUPPORT, _SUPPORT)
            weights[v, i, modality] = reader.matrix(where, types=(5,), shape=shape).T
    reader.finish()
    shown = visible[:, :, None]
    return SVRExperts(
        scale=scale,
        centres=jnp.asarray(centres),
        visible=jnp.asarray(visible),
        weights=jnp.asarray(np.where(shown[..., None, None], weights, np.float32(0))),
        confidence=jnp.asarray(np.where(shown, numbers[..., 0], np.float32(0))),
        scaling=jnp.asarray(np.where(shown, numbers[..., 1], np.float32(0))),
        bias=jnp.asarray(np.where(shown, numbers[..., 2], np.float32(0))),
    )


def read_cen(source: Source, path: PurePosixPath, landmarks: int) -> CENExperts:
    """Reads one scale of CEN experts and resolves which landmarks borrow a mirrored expert.

    Raises:
        ModelFileError: the file is missing or damaged, or a visible landmark has no expert.
    """
    reader = BinaryReader(*source.read(path))
    scale = _read_scale(reader)
    centres, visible = _read_views(reader, landmarks)
    views = len(centres)
    mirror = _read_mirror(reader, "mirrored landmarks", landmarks)
    mirror_view = _read_mirror(reader, "mirrored views", views)
    own = np.full(visible.shape, -1, np.int32)
    confidence = np.zeros(visible.shape, np.float32)
    table = []
    for v, i in np.ndindex(*visible.shape):
        layers, confidence[v, i] = _read_cen_patch(reader, f"view {v}, landmark {i}")
        if layers:
            own[v, i] = len(table)
            table.append(layers)
    reader.finish()
    expert, mirrored = _resolve_mirrors(own, mirror, mirror_view)
    bare = np.argwhere(visible & (expert < 0))
    if bare.size:
        raise fail(reader.path, f"view {bare[0][0]}, landmark {bare[0][1]}: has no expert")
    activations, weights, biases = _stack_layers(reader, table)
    return CENExperts(
        scale=scale,
        activations=activations,
        centres=jnp.asarray(centres),
        visible=jnp.asarray(visible),
        expert=jnp.asarray(np.where(visible, expert, 0)),
        mirrored=jnp.asarray(mirrored & visible),
        confidence=jnp.asarray(np.where(visible, confidence, np.float32(0))),
        weights=tuple(map(jnp.asarray, weights)),
        biases=tuple(map(jnp.asarray, biases)),
    )


def _read_mirror(reader: BinaryReader, what: str, size: int) -> Int[Array, " size"]:
    values = reader.matrix(what, types=(4,), shape=(None, None)).ravel()
    if values.size != size or not np.isin(values, np.arange(size)).all():
        raise fail(reader.path, f"{what}: expected {size} indices from 0 to {size - 1}")
    return values


CENLayer = tuple[str, Float32[Array, "_ _"], Float32[Array, " _"]]


def _read_cen_patch(reader: BinaryReader, what: str) -> tuple[list[CENLayer], float]:
    reader.expect(6, f"{what}: type")
    reader.expect(_SUPPORT, f"{what}: width")
    reader.expect(_SUPPORT, f"{what}: height")
    layers, inputs = [], _SUPPORT**2 + 1
    for index in range(reader.count(f"{what}: number of layers", most=20)):
        where = f"{what}, layer {index}"
        activation = _ACTIVATIONS.get(reader.int32(f"{where}: activation"), "none")
        bias = reader.matrix(f"{where}: biases", types=_FLOAT, shape=(None, None)).ravel()
        weight = reader.matrix(f"{where}: weights", types=_FLOAT, shape=(bias.size, inputs))
        layers.append((activation, weight.astype(np.float32), bias.astype(np.float32)))
        inputs = bias.size
    if layers and inputs != 1:
        raise fail(reader.path, f"{what}: expected a network with 1 output, found {inputs}")
    return layers, reader.number(f"{what}: confidence")


def _resolve_mirrors(
    own: Int[Array, "v n"], mirror: Int[Array, " n"], mirror_view: Int[Array, " v"]
) -> tuple[Int[Array, "v n"], Bool[Array, "v n"]]:
    """Which expert serves each landmark, -1 for none, and whether it sees a flipped patch.

    In the frontal view an expert serves its landmark and, flipped, the mirror partner, in the
    order of the landmarks; in other views a landmark without one takes it from the mirrored view.

    Reference:
        Specification 02, C.7.
    """
    expert, mirrored = own.copy(), np.zeros(own.shape, bool)
    for i in np.flatnonzero(own[0] >= 0):
        expert[0, i], mirrored[0, i] = own[0, i], False
        if mirror[i] != i:
            expert[0, mirror[i]], mirrored[0, mirror[i]] = own[0, i], True
    borrowed = own[mirror_view][:, mirror]
    borrows = (own < 0) & (borrowed >= 0)
    borrows[0] = False
    return np.where(borrows, borrowed, expert), mirrored | borrows


def _stack_layers(
    reader: BinaryReader, table: list[list[CENLayer]]
) -> tuple[tuple[str, ...], tuple[Array, ...], tuple[Array, ...]]:
    """Stacks the experts' layers, zero-padded to the widest expert.

    The padding is exact: a hidden unit that is added feeds the next layer through zero weights.
    """
    activations = [tuple(layer[0] for layer in layers) for layers in table]
    if not table or activations.count(activations[0]) != len(table):
        raise fail(reader.path, "expected experts with the same activations in every layer")
    weights, biases = [], []
    for layer in zip(*table, strict=True):
        rows = max(weight.shape[0] for _, weight, _ in layer)
        cols = max(weight.shape[1] for _, weight, _ in layer)
        stacked = np.zeros((len(table), rows, cols), np.float32)
        shifts = np.zeros((len(table), rows), np.float32)
        for index, (_, weight, bias) in enumerate(layer):
            stacked[index, : weight.shape[0], : weight.shape[1]] = weight
            shifts[index, : bias.size] = bias
        weights.append(stacked)
        biases.append(shifts)
    return activations[0], tuple(weights), tuple(biases)
