"""The contract of a face detector, and what every detector is called through."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..ops import call_in_turn
from ..types import Box, Detections, FivePoints, FlatImage, Image


class AbstractDetector(eqx.Module):
    """Finds faces in one picture. A subclass is final; its arrays are weights of the model.

    Called through `detect_faces`, which checks the input. It is pure and runs inside jit and
    `lax.cond`: the arrays of its result have the same shapes for every picture.
    """

    config: eqx.AbstractVar[Any]  # static and hashable: the settings that suit it

    @abc.abstractmethod
    def detect(self, image: Image, size: Int[Array, "2"], config: Any) -> Detections:
        """Faces by descending score; where `valid` is false, zeros.

        Args:
            image: RGB, 0 to 255; the picture is the top-left corner, what lies beyond counts for
                nothing.
            size: height and width of the picture, px, at most the array's.
            config: settings of the same type as `self.config`.
        """

    def plan(self, height: int, width: int, length: int, config: Any) -> Any:
        """What `detect_flat` needs to know of a picture's size, on the host.

        Args:
            height: of the picture, px.
            width: px.
            length: pixels that the array of a `FlatImage` has room for.
            config: settings.
        Returns:
            Arrays, of shapes that follow from `length` alone; None where such a picture is
            not taken flat: it is then put on a canvas, and each canvas compiles anew.
        """
        return None

    def detect_flat(self, image: FlatImage, plan: Any, config: Any) -> Detections:
        """`detect` for a picture in an array of any length: one program serves all sizes.

        Args:
            image: RGB, 0 to 255.
            plan: what `plan` gave for it.
            config: settings.
        """
        raise NotImplementedError(f"{type(self).__name__} plans no flat images")


@jax.named_scope("detect")
def detect_faces(
    detector: AbstractDetector,
    image: Image | UInt8[Array, "h w 3"] | FlatImage,
    *,
    size: Int[Array, "2"] | None = None,
    plan: Any = None,
    config: Any = None,
) -> Detections:
    """Finds the faces in one picture.

    The picture may be smaller than the array that holds it: pictures of many sizes then share
    one compilation, and each gives what it would give alone.

    Args:
        detector: MTCNN, or any `AbstractDetector`.
        image: RGB, 0 to 255; the picture is the top-left corner, the rest is ignored. As a
            `FlatImage` it makes one program serve pictures of all sizes.
        size: true height and width of the picture, px, at most the array's; None for all of it. A
            `FlatImage` has its own.
        plan: of a `FlatImage`: what `detector.plan` gave for its size, on the host.
        config: settings; by default the detector's own.
    Returns:
        Boxes tight around the landmarks, by descending score. They may leave the picture.
        `overflowed` tells that a capacity of `config` cut candidates, the least probable ones.
        Their derivative is that of the boxes kept: which are kept is a choice without one.
        `jax.vmap` looks at one picture after the other, as a loop does.
    Raises:
        ValueError: `image` has no colour axis or a batch axis, or a flat one has no plan.
    Reference:
        specification 01, A.
    """
    config = detector.config if config is None else config
    if isinstance(image, FlatImage):
        return _detect_flat(detector, image, plan, config)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"image: expected one RGB picture of shape (h, w, 3), got shape {image.shape}: "
            "give stacks to jaxface.detect_many"
        )
    canvas = jnp.array(image.shape[:2], jnp.int32)
    size = canvas if size is None else jnp.clip(jnp.asarray(size, jnp.int32), 0, canvas)
    floats = image if jnp.issubdtype(image.dtype, jnp.floating) else image.astype(jnp.float32)

    def detect(detector: AbstractDetector, image: Image, size: Int[Array, "2"]) -> Detections:
        return detector.detect(image, size, config)

    return call_in_turn(detect, detector, floats, size)


def _detect_flat(
    detector: AbstractDetector, image: FlatImage, plan: Any, config: Any
) -> Detections:
    if plan is None:
        raise ValueError(
            "plan: expected what detector.plan(height, width, length, config) gives for a flat "
            "image, got None: where it gives none, give the image as an array"
        )

    def detect(detector: AbstractDetector, image: FlatImage, plan: Any) -> Detections:
        return detector.detect_flat(image, plan, config)

    return call_in_turn(detect, detector, image, plan)


def detect_many(
    detector: AbstractDetector,
    images: Float[Array, "b h w 3"] | UInt8[Array, "b h w 3"],
    *,
    size: Int[Array, "2"] | Int[Array, "b 2"] | None = None,
    config: Any = None,
) -> Detections:
    """Finds the faces in many pictures.

    Each is what `detect_faces` gives, and costs what it costs there: one picture follows the other,
    which on CPUs is fast, as networks run where there are candidates only.

    Args:
        detector: MTCNN, or any `AbstractDetector`.
        images: RGB, 0 to 255, in arrays of one size.
        size: height and width of the pictures, px, of all or of each; by default all of `images`.
        config: settings; by default the detector's own.
    Returns:
        The faces, with a leading axis b.
    Raises:
        ValueError: `images` is not a stack of RGB pictures, or there are not as many sizes.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images: expected RGB pictures of shape (b, h, w, 3), got shape {images.shape}: "
            "give a single one to jaxface.detect_faces"
        )
    each = size is not None and size.ndim == 2
    if size is not None and each and len(size) != len(images):
        raise ValueError(
            f"size: expected {len(images)} entries, one for each picture, got shape {size.shape}"
        )

    def detect(image: Image | UInt8[Array, "h w 3"], size: Array | None) -> Detections:
        return detect_faces(detector, image, size=size, config=config)

    return jax.vmap(detect, in_axes=(0, 0 if each else None))(images, size)


def no_faces(
    detector: AbstractDetector,
    image: Image | UInt8[Array, "h w 3"] | FlatImage,
    *,
    plan: Any = None,
    config: Any = None,
) -> Detections:
    """What `detect_faces` gives for such an image where there is no face, without looking."""
    found = jax.eval_shape(
        lambda image, plan: detect_faces(detector, image, plan=plan, config=config), image, plan
    )
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), found)


def largest_face(detections: Detections) -> tuple[Box, FivePoints, Bool[Array, ""]]:
    """The widest face, which OpenFace tracks; the more probable one on ties.

    Args:
        detections: faces of one picture.
    Returns:
        The box, x0 y0 x1 y1, width and height, and its points, px; and whether there is one,
        zeros if not.
    Reference:
        specification 01, B.1.
    """
    widths = detections.sizes[:, 0]
    # A width may be negative in theory, so absent faces rank below every number.
    index = jnp.argmax(jnp.where(detections.valid, widths, -jnp.inf))
    box, points = detections.sized_boxes[index], detections.points[index]
    return box, points, jnp.any(detections.valid)
