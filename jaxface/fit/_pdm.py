"""Point distribution model: shapes, Jacobians and parameters from a box or from landmarks."""

import equinox as eqx
from jaxtyping import Array, Float


class PDM(eqx.Module):
    """Linear 3-D shape model under weak perspective."""

    mean_shape: Float[Array, "n 3"]  # mm, head frame
    components: Float[Array, "m n 3"]
    eigenvalues: Float[Array, " m"]
