"""What OpenFace detects in the sample images."""

import numpy as np
from jaxtyping import Float

# x y w h, px, and probability of OpenFace (C++): specification 01, A.12.
DETECTIONS = {
    "sample1.jpg": [(110.809418, 111.092194, 185.248459, 164.055954, 0.999399364)],
    "sample2.jpg": [
        (863.700623, 600.904419, 123.87014, 126.276863, 0.999983788),
        (129.424179, 522.606262, 120.671341, 127.620071, 0.999489427),
        (1723.90063, 761.859558, 136.107468, 131.068817, 0.998890698),
    ],
    "sample3.jpg": [(266.763733, 100.723991, 214.457642, 176.192963, 0.999540508)],
    "sample4.jpg": [(199.820023, 177.44046, 241.229874, 231.869431, 0.98675698)],
    "sample5.jpg": [(204.982483, 131.999084, 291.225861, 286.432556, 0.999927282)],
    "sample3_16bit_gray.png": [(262.670197, 99.0395889, 221.178436, 184.717148, 0.998996973)],
    "sample3_16bit_rgb.png": [(266.763733, 100.723991, 214.457642, 176.192963, 0.999540508)],
}


def corners(detections: Float[np.ndarray, "f k"]) -> Float[np.ndarray, "f 4"]:
    """Boxes x0 y0 x1 y1 from rows x y w h (and more)."""
    return np.concatenate([detections[:, :2], detections[:, :2] + detections[:, 2:4]], axis=1)
