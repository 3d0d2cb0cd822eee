"""Point distribution model: shapes, Jacobians, updates and parameters from a box."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..ops import (
    entries_to_euler,
    euler_to_matrix,
    few_on_cuda,
    interleaved_product,
    matrix_to_euler,
    small_product,
)
from ..types import Box, PDMParameters

_HIGHEST = lax.Precision.HIGHEST
_FEW = 16  # modes
Pose = tuple[Float[Array, ""], Float[Array, "3"], Float[Array, "2"]]  # of `PDMParameters`
# CROSS[d, k, e] is the sign of a[d] * b[e] in component k of the cross product of a and b.
CROSS = np.zeros((3, 3, 3), np.int8)
for _i, _j, _k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    CROSS[_i, _k, _j], CROSS[_j, _k, _i] = 1, -1


class PDM(eqx.Module):
    """Linear 3-D shape model under weak perspective (specification 02, B)."""

    mean_shape: Float[Array, "n 3"]  # mm, head frame
    components: Float[Array, "m n 3"]
    eigenvalues: Float[Array, " m"]


def zero_parameters(pdm: PDM) -> PDMParameters:
    """OpenFace's parameters before any fit: scale 1, everything else 0."""
    dtype = pdm.mean_shape.dtype
    return PDMParameters(
        scale=jnp.ones((), dtype),
        rotation=jnp.zeros(3, dtype),
        translation=jnp.zeros(2, dtype),
        local=jnp.zeros(pdm.eigenvalues.shape, dtype),
    )


def shape_3d(pdm: PDM, local: Float[Array, " m"]) -> Float[Array, "n 3"]:
    """Landmarks in the head frame, mm.

    Many modes are added in the order of OpenFace's library, to keep the last bit.
    """
    if local.shape[0] <= _FEW:
        moved = jnp.einsum("m,mnd->nd", local, pdm.components, precision=_HIGHEST)
        return pdm.mean_shape + moved
    return pdm.mean_shape + interleaved_product(local, pdm.components)


def _swap(points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """Columns y, x, z."""
    return jnp.concatenate([points[:, 1:2], points[:, :1], points[:, 2:]], axis=1)


def project(shape: Float[Array, "n 3"], parameters: PDMParameters) -> Float[Array, "n 2"]:
    """Weak-perspective image of a head-frame shape, px."""
    rows = euler_to_matrix(parameters.rotation)[:2]
    # OpenFace's compiler adds the products in this order.
    turned = small_product(_swap(shape), _swap(rows).T)
    return parameters.scale * turned + parameters.translation[None]


def shape_2d(pdm: PDM, parameters: PDMParameters) -> Float[Array, "n 2"]:
    """Landmarks in the image, px."""
    return project(shape_3d(pdm, parameters.local), parameters)


def extents(
    points: Float[Array, "n 2"], present: Bool[Array, " n"] | None = None
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """Smallest and largest x and y of the present points."""
    if present is None:
        return jnp.min(points, axis=0), jnp.max(points, axis=0)
    inf = jnp.asarray(np.inf, points.dtype)
    keep = present[:, None]
    return (
        jnp.min(jnp.where(keep, points, inf), axis=0),
        jnp.max(jnp.where(keep, points, -inf), axis=0),
    )


def bounding_box(pdm: PDM, parameters: PDMParameters) -> Box:
    """Box around the projected landmarks, px."""
    return jnp.concatenate(extents(shape_2d(pdm, parameters)))


def with_size(box: Box) -> Float[Array, "6"]:
    """A box with its width and height behind; computed from the corners if need be."""
    return box if box.shape[0] == 6 else jnp.concatenate([box, box[2:] - box[:2]])


def parameters_from_box(pdm: PDM, box: Box, rotation: Float[Array, "3"]) -> PDMParameters:
    """Parameters of the mean shape, turned by `rotation`, that fill a box.

    Args:
        box: face box, px. One that is empty or not finite is taken as a single pixel, in which
            no fit succeeds.
        rotation: Euler angles, rad.
    Reference:
        Specification 02, B.3.
    """
    turned = small_product(pdm.mean_shape, euler_to_matrix(rotation)[:2].T)
    low, high = extents(turned)
    start, _, size = jnp.split(with_size(box), 3)
    usable = jnp.all(jnp.isfinite(box)) & jnp.all(size > 0)
    start, size = jnp.where(usable, start, 0), jnp.where(usable, size, 1)
    scale = jnp.mean(size / (high - low))
    translation = start + size / 2 - scale * (low + high) / 2
    return PDMParameters(
        scale=scale,
        rotation=rotation,
        translation=translation,
        local=jnp.zeros_like(pdm.eigenvalues),
    )


def rigid_jacobian(shape: Float[Array, "n 3"], parameters: PDMParameters) -> Float[Array, "n 2 6"]:
    """Derivative of the projected shape by scale, object-frame rotation and translation.

    Columns: scale, omega_x, omega_y, omega_z, t_x, t_y, for R(r) (I + [omega]x).

    Reference:
        Specification 02, B.4.
    """
    rows = euler_to_matrix(parameters.rotation)[:2]
    # The derivative by omega is the cross product of the point with the row of the rotation.
    cross = CROSS.astype(rows.dtype)[:, None]
    turned = parameters.scale * jnp.sum(rows[None, :, None] * cross, axis=-1)  # d a k
    by_shape = jnp.concatenate([rows.T[..., None], turned], axis=-1)
    moved = jnp.sum(shape[:, :, None, None] * by_shape[None], axis=1)
    shift = jnp.broadcast_to(jnp.eye(2, dtype=shape.dtype), (shape.shape[0], 2, 2))
    return jnp.concatenate([moved, shift], axis=-1)


def full_jacobian(
    pdm: PDM, shape: Float[Array, "n 3"], parameters: PDMParameters
) -> Float[Array, "n 2 k"]:
    """The rigid columns and one more for each shape mode, k = 6 + m (specification 02, B.4)."""
    rotation = parameters.scale * euler_to_matrix(parameters.rotation)[:2]
    modes = jnp.einsum("ad,mnd->nam", rotation, pdm.components, precision=_HIGHEST)
    return jnp.concatenate([rigid_jacobian(shape, parameters), modes], axis=-1)


def update_parameters(parameters: PDMParameters, delta: Float[Array, " k"]) -> PDMParameters:
    """Adds a Gauss-Newton step; six entries move the pose only.

    The nearest rotation to I + [omega]x turns by atan |omega|, so it needs no decomposition.

    Reference:
        Specification 02, B.5.
    """
    pose = few_on_cuda(_written_out_pose, _updated_pose, parameters, delta[:6])
    local = parameters.local if delta.shape[0] == 6 else parameters.local + delta[6:]
    return PDMParameters(*pose, local=local)


def _updated_pose(parameters: PDMParameters, delta: Float[Array, "6"]) -> Pose:
    """Scale, rotation and translation after a step."""
    omega = delta[1:4]
    cross = jnp.sum(omega[:, None, None] * CROSS.astype(omega.dtype), axis=0)
    cosine = lax.rsqrt(1 + jnp.sum(omega * omega))
    square = small_product(cross, cross)
    step = jnp.eye(3, dtype=delta.dtype) + cosine * cross + cosine**2 / (1 + cosine) * square
    turned = small_product(euler_to_matrix(parameters.rotation), step)
    rotation = matrix_to_euler(turned)
    return parameters.scale + delta[0], rotation, parameters.translation + delta[4:6]


def _written_out_pose(parameters: PDMParameters, delta: Float[Array, "6"]) -> Pose:
    """`_updated_pose` entry by entry: few operations."""
    matrix = euler_to_matrix(parameters.rotation)
    x, y, z = delta[1], delta[2], delta[3]
    square = x * x + y * y + z * z
    cosine = lax.rsqrt(1 + square)
    rest = cosine**2 / (1 + cosine)
    rows = []
    for i in range(3):
        a, b, c = matrix[i, 0], matrix[i, 1], matrix[i, 2]
        along, kept = rest * (a * x + b * y + c * z), 1 - rest * square
        crossed = (b * z - c * y, c * x - a * z, a * y - b * x)
        entries = zip((a, b, c), crossed, (x, y, z), strict=True)
        rows.append([kept * r + cosine * k + along * w for r, k, w in entries])
    rotation = entries_to_euler(rows)
    return parameters.scale + delta[0], rotation, parameters.translation + delta[4:6]


def clamp_local(pdm: PDM, parameters: PDMParameters) -> PDMParameters:
    """Limits each shape coefficient to three standard deviations (specification 02, B.6)."""
    bound = 3 * jnp.sqrt(pdm.eigenvalues)
    return eqx.tree_at(lambda p: p.local, parameters, jnp.clip(parameters.local, -bound, bound))
