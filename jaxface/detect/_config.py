"""Settings of MTCNN. They travel with the detector: see `MTCNN.config`."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Settings of MTCNN; the defaults are OpenFace's, the capacities ours."""

    min_face_size: float = 60.0  # px
    factor: float = 0.709  # size of a pyramid level relative to the one before
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)  # face probability, per network
    proposals: int = 2048  # P-Net cells over the threshold
    candidates: int = 512  # boxes that R-Net sees
    refined: int = 128  # boxes that O-Net sees
    faces: int = 64  # detections returned

    def __post_init__(self) -> None:
        if not self.min_face_size >= 12:
            raise ValueError(f"min_face_size: expected at least 12 px, got {self.min_face_size}")
        if not 0 < self.factor < 1:
            raise ValueError(f"factor: expected a number between 0 and 1, got {self.factor}")
        capacities = (self.proposals, self.candidates, self.refined, self.faces)
        if min(capacities) < 1:
            raise ValueError(f"capacities: expected at least 1 each, got {capacities}")
