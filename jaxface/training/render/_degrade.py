"""What happens to a picture between a face and a file: light, optics, sensor, compression, and
things in front of the face."""

import cv2
import numpy as np

_LEAST_CONTRAST = 20.0  # grey levels between the 10th and 90th percentile that light must leave
_WHITE, _MOST_WHITE = 250, 0.15  # grey level, and the share of the picture that may become it
_LEFT_EYE, _RIGHT_EYE = slice(42, 48), slice(36, 42)


def degrade(rng: np.random.Generator, image: np.ndarray, *, strength: float = 1.0) -> np.ndarray:
    """Spoils a picture at random.

    Args:
        image: (h, w, 3) uint8.
        strength: 0 changes nothing; 1 is the usual range.

    Returns:
        A picture of the same size and type.
    """
    if strength <= 0:
        return image
    picture = _relight(rng, image.astype(np.float32), strength)
    if _unreadable(picture, image):
        picture = image.astype(np.float32)
    picture = _soften(rng, picture, strength)
    if rng.random() < 0.6 * strength:
        picture = _add_noise(rng, picture, strength)
    if rng.random() < 0.25 * strength:
        grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
        picture = np.repeat(grey[..., None], 3, axis=2)
    picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if rng.random() < 0.6 * strength:
        picture = _compress(picture, int(rng.uniform(min(100 - 80 * strength, 95), 96)))
    return picture


def _relight(rng: np.random.Generator, picture: np.ndarray, strength: float) -> np.ndarray:
    """Contrast, brightness, tint, gamma, a slope of light; at times very little light."""
    height, width = picture.shape[:2]
    mean = picture.mean()
    contrast, bright = 1 + strength * rng.normal(0, 0.18), strength * rng.normal(0, 15)
    picture = mean + (picture - mean) * max(contrast, 0.3) + bright
    if rng.random() < 0.5 * strength:
        picture = picture * (1 + strength * rng.normal(0, 0.08, 3)).astype(np.float32)
    if rng.random() < 0.3 * strength:
        corners = np.exp(rng.normal(0, 0.4 * strength, (2, 2))).astype(np.float32)
        slope = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
        picture = picture * slope[..., None]
    picture = np.clip(picture, 0, 255)
    if rng.random() < 0.4 * strength:
        gamma = np.exp(rng.normal(0, 0.35 * strength))
        picture = 255 * (picture / 255) ** np.float32(gamma)
    if rng.random() < 0.12 * strength:
        picture = picture * np.float32(rng.uniform(0.2, 0.6))
    return picture.astype(np.float32)


def _unreadable(picture: np.ndarray, before: np.ndarray) -> bool:
    """Whether light has left nothing to see: too little contrast, or much more that is white."""
    coarse = picture[::4, ::4]
    white = (coarse > _WHITE).mean() - (before[::4, ::4] > _WHITE).mean()
    low, high = np.percentile(coarse, (10, 90))
    return bool(high - low < _LEAST_CONTRAST or white > _MOST_WHITE)


def _soften(rng: np.random.Generator, picture: np.ndarray, strength: float) -> np.ndarray:
    """Defocus, motion, or a detour over fewer pixels."""
    height, width = picture.shape[:2]
    size = max(height, width)
    kind = rng.random() / max(strength, 1e-6)
    if kind < 0.25:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.4 + 0.012 * size))
    if kind < 0.35:
        length = max(int(rng.uniform(2, 0.06 * size + 2)), 2)
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        middle = (length - 1) / 2
        reach = middle * np.array([np.cos(angle), np.sin(angle)])
        start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
        cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1)
        return cv2.filter2D(picture, -1, kernel / kernel.sum())
    if kind < 0.6:
        share = rng.uniform(0.25, 0.9)
        small = (max(int(width * share), 8), max(int(height * share), 8))
        ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
        way = ways[rng.choice(3, p=(0.5, 0.4, 0.1))]
        reduced = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(reduced, (width, height), interpolation=way)
    return picture


def _add_noise(rng: np.random.Generator, picture: np.ndarray, strength: float) -> np.ndarray:
    spread = strength * rng.exponential(6)
    noise = rng.standard_normal(picture.shape, np.float32)
    if rng.random() < 0.5:
        noise = np.repeat(noise[..., :1], 3, axis=2)
    if rng.random() < 0.3:
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.2)) * 2
    return picture + np.float32(min(spread, 30)) * noise


def _compress(picture: np.ndarray, quality: int) -> np.ndarray:
    stored = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))


def occlude(
    rng: np.random.Generator, image: np.ndarray, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Puts one thing in front of a face.

    Args:
        image: (h, w, 3) uint8.
        landmarks: (68, 2) px.

    Returns:
        The picture, and a mask (h, w) bool of the pixels that it hides. Frames of glasses hide
        nothing; dark lenses do.
    """
    cover = np.zeros(image.shape[:2], np.uint8)
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    size = float(max(high - low))
    kind = rng.choice(5, p=(0.2, 0.25, 0.25, 0.2, 0.1))
    if kind == 2:
        return _glasses(rng, image, landmarks, size)
    if kind == 0:
        centre = rng.uniform(low, high)
        axes = np.maximum(size * rng.uniform(0.1, 0.3, 2), 1).astype(int)
        cv2.ellipse(cover, _pixel(centre), axes.tolist(), rng.uniform(0, 180), 0, 360, 255, -1)
        colour = rng.uniform(0, 255, 3)
    elif kind == 1:
        _hand(rng, cover, landmarks, size)
        colour = _skin_of(rng, image, landmarks)
    elif kind == 3:
        _hair(rng, cover, landmarks, size)
        colour = rng.uniform([10, 5, 5], [120, 90, 70])
    else:
        _bar(rng, cover, low, high)
        colour = rng.uniform(0, 255, 3)
    return _lay(rng, image, cover, colour)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(round(float(point[0]))), int(round(float(point[1])))


def _skin_of(rng: np.random.Generator, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Colour of the face beside the nose, about as bright."""
    height, width = image.shape[:2]
    x, y = np.clip(landmarks[[31, 35, 30]].mean(axis=0), 0, [width - 1, height - 1]).astype(int)
    return image[y, x] * rng.uniform(0.7, 1.15)


def _hand(rng: np.random.Generator, cover: np.ndarray, landmarks: np.ndarray, size: float) -> None:
    """A palm and fingers that come from below or from a side."""
    palm = landmarks[rng.choice([3, 6, 8, 10, 13, 48, 54, 57])] + rng.normal(0, 0.06 * size, 2)
    angle = rng.uniform(-np.pi, 0) + rng.normal(0, 0.3)
    width = size * rng.uniform(0.05, 0.075)
    across = np.array([-np.sin(angle), np.cos(angle)])
    along = np.array([np.cos(angle), np.sin(angle)])
    thick = max(int(width * 2), 1)
    for finger in range(4):
        base = palm + across * width * 2.1 * (finger - 1.5)
        bend = along + across * 0.12 * (finger - 1.5) + rng.normal(0, 0.05, 2)
        tip = base + bend * size * rng.uniform(0.25, 0.4)
        cv2.line(cover, _pixel(base), _pixel(tip), 255, thick, cv2.LINE_AA)
    thumb = palm - across * width * 4 + along * size * 0.12
    cv2.line(cover, _pixel(palm - across * width * 2), _pixel(thumb), 255, thick, cv2.LINE_AA)
    axes = (max(int(width * 3), 1), max(int(width * 4.3), 1))
    cv2.ellipse(cover, _pixel(palm - along * width * 2), axes, np.degrees(angle), 0, 360, 255, -1)
    wrist = palm - along * size
    cv2.line(cover, _pixel(palm - along * width * 2), _pixel(wrist), 255, max(int(width * 5), 1))


def _hair(rng: np.random.Generator, cover: np.ndarray, landmarks: np.ndarray, size: float) -> None:
    """Strands that fall over the forehead and a cheek."""
    up = landmarks[27] - landmarks[8]
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    across = np.array([-up[1], up[0]])
    start = landmarks[27] + up * size * 0.55
    sideways = rng.uniform(-0.5, 0.5) * size
    for _ in range(rng.integers(4, 30)):
        root = start + across * (sideways + rng.normal(0, 0.08 * size))
        tip = root - up * size * rng.uniform(0.2, 1.1) + across * rng.normal(0, 0.15) * size
        bend = (root + tip) / 2 + across * rng.normal(0, 0.12) * size
        t = np.linspace(0, 1, 12)[:, None]
        curve = (1 - t) ** 2 * root + 2 * t * (1 - t) * bend + t**2 * tip
        thick = max(int(size * rng.uniform(0.005, 0.03)), 1)
        cv2.polylines(cover, [np.rint(curve).astype(np.int32)], False, 255, thick, cv2.LINE_AA)


def _bar(rng: np.random.Generator, cover: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """A straight edge: a border of the picture, a cup, a microphone, another head."""
    share = rng.uniform(0.1, 0.35)
    span = high - low
    boxes = (
        (low - span, (low[0] + share * span[0], high[1] + span[1])),
        ((high[0] - share * span[0], low[1] - span[1]), high + span),
        ((low[0] - span[0], high[1] - share * span[1]), high + span),
        (low + span * rng.uniform(0, 0.8, 2), None),
    )
    first, last = boxes[rng.integers(4)]
    if last is None:
        last = first + span * rng.uniform(0.1, 0.35, 2)
    cv2.rectangle(cover, _pixel(np.asarray(first)), _pixel(np.asarray(last)), 255, -1)


def _lay(
    rng: np.random.Generator, image: np.ndarray, cover: np.ndarray, colour: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fills a mask with a colour that varies smoothly."""
    height, width = cover.shape
    field = rng.normal(0, 0.15, (6, 6, 1)).astype(np.float32)
    fine = rng.normal(0, 0.03, (height, width)).astype(np.float32)
    shade = 1 + cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) + fine
    layer = np.clip(colour * shade[..., None], 0, 255)
    soft = cv2.GaussianBlur(cover, (3, 3), 0)[..., None] / np.float32(255)
    mixed = image + soft * (layer - image)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), cover > 127


def _glasses(
    rng: np.random.Generator, image: np.ndarray, landmarks: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rims around both eyes, bridge and temples; at times with dark lenses or a reflection."""
    lenses = np.zeros(image.shape[:2], np.uint8)
    rims = np.zeros_like(lenses)
    thick = max(int(round(size * rng.uniform(0.006, 0.03))), 1)
    wide, high, power = rng.uniform(0.85, 1.15), rng.uniform(0.55, 0.95), rng.uniform(2, 5)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(angles), np.sin(angles)
    outline = np.stack([np.sign(c) * abs(c) ** (2 / power), np.sign(s) * abs(s) ** (2 / power)])
    ends = []
    for eye in (_RIGHT_EYE, _LEFT_EYE):
        points = landmarks[eye]
        centre, across = points.mean(axis=0), points[3] - points[0]
        down = (landmarks[33] - landmarks[27]) * 0.45
        rim = centre + outline[0][:, None] * across * wide + outline[1][:, None] * down * high
        corners = [np.rint(rim).astype(np.int32)]
        cv2.fillPoly(lenses, corners, 255)
        cv2.polylines(rims, corners, True, 255, thick, cv2.LINE_AA)
        ends.append((centre - across * wide, centre + across * wide))
    cv2.line(rims, _pixel(ends[0][1]), _pixel(ends[1][0]), 255, thick, cv2.LINE_AA)
    cv2.line(rims, _pixel(ends[0][0]), _pixel(landmarks[0]), 255, thick, cv2.LINE_AA)
    cv2.line(rims, _pixel(ends[1][1]), _pixel(landmarks[16]), 255, thick, cv2.LINE_AA)
    dark = rng.random() < 0.35
    hidden = np.zeros(image.shape[:2], bool)
    if dark:
        image, hidden = _lay(rng, image, lenses, rng.uniform(0, 60, 3))
    elif rng.random() < 0.3:
        shine = cv2.GaussianBlur(lenses, (0, 0), 0.03 * size + 0.5)[..., None] / 255
        image = np.clip(image + shine * rng.uniform(10, 70), 0, 255).astype(np.uint8)
    image, _ = _lay(rng, image, rims, rng.uniform([0, 0, 0], [140, 110, 90]))
    return image, hidden


def lay_over(front: np.ndarray, back: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """One picture before another.

    Args:
        front, back: (h, w, 3) uint8.
        alpha: (h, w) uint8, 255 where the front hides the back.

    Returns:
        uint8.
    """
    share = alpha[..., None].astype(np.uint16)
    return ((front * share + back * (255 - share) + 127) // 255).astype(np.uint8)
