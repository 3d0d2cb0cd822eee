"""Readers of the MTCNN networks and of the landmark validators (specification 01, A.1 and B.8)."""

from pathlib import PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from ...detect import MTCNN, OPENFACE_FRAME, Conv, Dense, MaxPool, Net, PReLU
from ...fit import FaceWarp, Validator
from ._matrices import Array, BinaryReader, Reader, fail
from ._source import LANDMARK, Source

_SIDE = 60  # of the validator's warped face
_FLOAT = (5, 6)


def read_mtcnn(source: Source) -> MTCNN:
    """Reads P-Net, R-Net and O-Net through their list, `mtcnn_detector/MTCNN_detector.txt`.

    Raises:
        ModelFileError: a file is missing, damaged or not the network expected.
    """
    folder = LANDMARK / "mtcnn_detector"
    path, data = source.read(folder / "MTCNN_detector.txt")
    words = [line.split() for line in data.decode("ascii", "replace").splitlines() if line.strip()]
    names = {pair[0]: pair[1] for pair in words if len(pair) == 2}
    if set(names) != {"PNet", "RNet", "ONet"}:
        raise fail(path, f"expected the lines PNet, RNet and ONet, found {sorted(names)}")
    return MTCNN(
        pnet=_read_net(source, folder / names["PNet"], outputs=6),
        rnet=_read_net(source, folder / names["RNet"], outputs=6),
        onet=_read_net(source, folder / names["ONet"], outputs=16),
        landmark_frame=OPENFACE_FRAME,
    )


def _read_net(source: Source, path: PurePosixPath, *, outputs: int) -> Net:
    reader = BinaryReader(*source.read(path))
    depth = reader.count("number of layers", most=100)
    layers = tuple(_read_layer(reader, f"layer {i}") for i in range(depth))
    reader.finish()
    channels = 3
    for i, layer in enumerate(layers):
        what = f"layer {i} ({type(layer).__name__})"
        if isinstance(layer, Conv):
            channels = _follow(reader, what, channels, layer.weight.shape[:2])
        elif isinstance(layer, Dense):
            # A map is flattened before the first dense layer, so any multiple of the maps fits.
            size = layer.weight.shape[1]
            channels = _follow(
                reader, what, size if size % channels == 0 else channels, layer.weight.shape
            )
        elif isinstance(layer, PReLU) and layer.slope.shape[0] != channels:
            raise fail(reader.path, f"{what}: expected {channels} slopes")
    if channels != outputs:
        raise fail(reader.path, f"expected a network with {outputs} outputs, found {channels}")
    return Net(layers=layers)


def _follow(reader: BinaryReader, what: str, inputs: int, shape: tuple[int, ...]) -> int:
    """Checks that a layer of weights [out, in] fits on `inputs` channels; its outputs."""
    if shape[1] != inputs:
        raise fail(reader.path, f"{what}: expected {inputs} inputs, found {shape[1]}")
    return shape[0]


def _read_layer(reader: BinaryReader, what: str) -> Conv | PReLU | Dense | MaxPool:
    kind = reader.int32(f"{what}: type")
    if kind == 0:
        weight, bias = _read_conv(reader, what)
        return Conv(weight=jnp.asarray(weight), bias=jnp.asarray(bias))
    if kind == 1:
        size = tuple(reader.count(f"{what}: pooling", most=16) for _ in range(4))
        if size[0] != size[1] or size[2] != size[3] or 0 in size:
            raise fail(reader.path, f"{what}: expected square pooling, found {size}")
        return MaxPool(kernel=size[0], stride=size[2])
    if kind == 2:
        weight, bias = _read_dense(reader, what)
        return Dense(weight=jnp.asarray(weight), bias=jnp.asarray(bias))
    if kind == 3:
        slope = reader.matrix(f"{what}: slopes", types=(5,), shape=(None, 1))[:, 0]
        return PReLU(slope=jnp.asarray(slope))
    raise fail(reader.path, f"{what}: expected type 0 to 3, found {kind}")


def _read_conv(
    reader: BinaryReader, what: str
) -> tuple[Float32[Array, "o i kh kw"], Float32[Array, " o"]]:
    inputs = reader.count(f"{what}: inputs", most=4096)
    outputs = reader.count(f"{what}: outputs", most=4096)
    if inputs * outputs == 0:
        raise fail(reader.path, f"{what}: expected a kernel, found {inputs} x {outputs}")
    bias = reader.float32s(outputs, f"{what}: biases")
    kernels = []
    for _ in range(inputs * outputs):
        shape = kernels[0].shape if kernels else (None, None)
        kernels.append(reader.matrix(f"{what}: kernel", types=(5,), shape=shape))
    weight = np.stack(kernels).reshape(inputs, outputs, *kernels[0].shape)
    return np.ascontiguousarray(weight.swapaxes(0, 1)), bias


def _read_dense(
    reader: BinaryReader, what: str
) -> tuple[Float32[Array, "o i"], Float32[Array, " o"]]:
    bias = reader.matrix(f"{what}: biases", types=(5,), shape=(None, None)).ravel()
    weight = reader.matrix(f"{what}: weights", types=(5,), shape=(None, bias.size))
    return np.ascontiguousarray(weight.T), bias


def read_validator(source: Source, path: PurePosixPath) -> Validator:
    """Reads a landmark validator of type 3, a network per view.

    Raises:
        ModelFileError: the file is missing, damaged or of another type.
    """
    reader = BinaryReader(*source.read(path))
    reader.expect(3, "validator type")
    views = reader.count("number of views", most=100)
    centres = [read_centre(reader, f"view {v}") for v in range(views)]
    entries = [_read_validator_view(reader, f"view {v}") for v in range(views)]
    reader.finish()
    layers = entries[0]["layers"]
    shapes = [[w.shape for w in entry["weights"]] for entry in entries]
    if any(entry["layers"] != layers for entry in entries) or shapes.count(shapes[0]) != views:
        raise fail(reader.path, "expected the same network in every view")
    most = max(len(entry["triangles"]) for entry in entries)

    def stack(name: str) -> Shaped[jax.Array, "v ..."]:
        return jnp.asarray(np.stack([entry[name] for entry in entries]))

    def stack_padded(name: str) -> Shaped[jax.Array, "v t 3"]:
        return jnp.asarray(np.stack([_pad_rows(entry[name], most) for entry in entries]))

    def stack_layers(name: str) -> tuple[Float32[jax.Array, "v ..."], ...]:
        per_view = [entry[name] for entry in entries]
        return tuple(jnp.asarray(np.stack(layer)) for layer in zip(*per_view, strict=True))

    return Validator(
        layers=layers,
        warp=FaceWarp(
            centres=jnp.asarray(np.stack(centres)),
            mean=stack("mean"),
            std=stack("std"),
            mask=stack("mask"),
            min_x=stack("min_x"),
            min_y=stack("min_y"),
            triangles=stack_padded("triangles"),
            triangle_id=stack("triangle_id"),
            alpha=stack_padded("alpha"),
            beta=stack_padded("beta"),
        ),
        weights=stack_layers("weights"),
        biases=stack_layers("biases"),
    )


def read_centre(reader: Reader, what: str) -> Float32[Array, "3"]:
    """Reads a view centre, stored in degrees; returns rad, converted in float64."""
    degrees = reader.matrix(f"{what}: centre", types=(6,), shape=(3, 1))[:, 0]
    return (degrees * (np.pi / 180)).astype(np.float32)


def _read_validator_view(reader: BinaryReader, what: str) -> dict:
    mean = reader.matrix(f"{what}: mean", types=_FLOAT, shape=(1, None))[0]
    std = reader.matrix(f"{what}: std", types=_FLOAT, shape=(1, mean.size))[0]
    if (std <= 0).any():
        raise fail(reader.path, f"{what}: std: expected positive numbers")
    layers, weights, biases = _read_validator_net(reader, what)
    warp = _read_warp(reader, what, mean.size)
    return {
        **warp,
        "mean": _image(mean, warp["mask"], 0.0),
        "std": _image(std, warp["mask"], 1.0),
        "layers": layers,
        "weights": weights,
        "biases": biases,
    }


def _read_validator_net(
    reader: BinaryReader, what: str
) -> tuple[tuple[str, ...], list[Array], list[Array]]:
    names, weights, biases = [], [], []
    channels, side, flat = 1, _SIDE, False
    for i in range(reader.count(f"{what}: number of layers", most=100)):
        where = f"{what}: layer {i}"
        kind = reader.int32(f"{where}: type")
        name = {0: "conv", 1: "pool", 2: "fc", 3: "relu"}.get(kind)
        if name is None:
            raise fail(reader.path, f"{where}: expected type 0 to 3, found {kind}")
        names.append(name)
        if name == "pool":
            side = (side + 1) // 2
        if name in ("conv", "fc"):
            weight, bias = (_read_conv if name == "conv" else _read_dense)(reader, where)
            if name == "fc":
                channels, side, flat = (channels if flat else channels * side**2), 1, True
            channels = _follow(reader, where, channels, weight.shape)
            side -= weight.shape[2] - 1 if name == "conv" else 0
            weights.append(weight)
            biases.append(bias)
    return tuple(names), weights, biases


def _read_warp(reader: BinaryReader, what: str, pixels: int) -> dict:
    """Reads the piece-wise affine warp of one view."""
    reader.expect(pixels, f"{what}: pixel count")
    min_x = reader.number(f"{what}: min x")
    min_y = reader.number(f"{what}: min y")
    reader.matrix(f"{what}: destination shape", types=_FLOAT, shape=(136, 1))
    triangles = reader.matrix(f"{what}: triangles", types=(4,), shape=(None, 3))
    grid = (_SIDE, _SIDE)
    triangle_id = reader.matrix(f"{what}: triangle map", types=(4,), shape=grid)
    mask = reader.matrix(f"{what}: mask", types=(4,), shape=grid)
    if triangles.min() < 0 or triangles.max() >= 68:
        raise fail(reader.path, f"{what}: triangles: expected landmarks 0 to 67")
    inside = mask == 1
    if not (inside | (mask == 0)).all() or inside.sum() != pixels:
        raise fail(reader.path, f"{what}: mask: expected {pixels} ones, found {inside.sum()}")
    if (inside != (triangle_id >= 0)).any() or triangle_id.max() >= len(triangles):
        raise fail(reader.path, f"{what}: triangle map does not agree with the mask")
    shape = (len(triangles), 3)
    alpha = reader.matrix(f"{what}: alpha", types=_FLOAT, shape=shape)
    beta = reader.matrix(f"{what}: beta", types=_FLOAT, shape=shape)
    return {
        "min_x": np.float32(min_x),
        "min_y": np.float32(min_y),
        "triangles": triangles.astype(np.int32),
        "triangle_id": np.maximum(triangle_id, -1).astype(np.int32),
        "mask": inside,
        "alpha": alpha.astype(np.float32),
        "beta": beta.astype(np.float32),
    }


def _image(
    values: Float[Array, " p"], mask: Bool[Array, "60 60"], outside: float
) -> Float32[Array, "60 60"]:
    """Puts the masked pixels, which the file stores column by column, into an image."""
    image = np.full(mask.shape, outside, np.float32)
    image.T[mask.T] = values
    return image


def _pad_rows(values: Array, rows: int) -> Array:
    return np.pad(values, [(0, rows - len(values)), (0, 0)])
