"""Action units as written in specification 03, C.4 to C.6: prediction and post-processing."""

import numpy as np


def decision_value(features, mean, median, weights, bias, dynamic):
    """Value of one linear model; `median` is the person's and used by dynamic models only."""
    centred = features - mean
    if dynamic:
        centred = centred - median
    return float(centred @ weights + bias)


def presence_label(value, positive, negative):
    return positive if value > 0 else negative


def smooth_intensity(history, success, cutoff, calibrated):
    """One unit's intensities over a clip; `calibrated` models have the person's offset removed."""
    good = sorted(v for v, s in zip(history, success, strict=True) if s)
    offset = 0.0
    if calibrated and cutoff != -1 and good:
        offset = good[int(len(good) * cutoff)]
    clamped = [
        min(max(v - offset, 0.0), 5.0) if s else 0.0 for v, s in zip(history, success, strict=True)
    ]
    out = list(clamped)
    for i in range(1, len(out) - 1):
        out[i] = (clamped[i - 1] + clamped[i] + clamped[i + 1]) / 3
    return out


def smooth_presence(history, success):
    """One unit's labels over a clip, by a vote of seven frames."""
    labels = [float(v) if s else 0.0 for v, s in zip(history, success, strict=True)]
    out = list(labels)
    for i in range(3, len(out) - 3):
        out[i] = 0.0 if sum(labels[i - 3 : i + 4]) / 7 < 0.5 else 1.0
    return out


class OnlineCorrection:
    """Offset of each unit from the histogram of its own past values (live video)."""

    def __init__(self, units):
        self.histogram = np.zeros((units, 200), np.int64)
        self.count = 0

    def update(self, values, success):
        """Corrected and clamped intensities of one frame."""
        correction = np.zeros(len(values))
        if success:
            for u, value in enumerate(values):
                self.histogram[u, min(max(int((value + 3) * 25), 0), 199)] += 1
            self.count += 1
            if self.count >= 10:
                cut = int(0.10 * self.count)
                for u in range(len(values)):
                    first = int(np.argmax(np.cumsum(self.histogram[u]) > cut))
                    correction[u] = -3 + 0.04 * first
        return np.clip(values - correction, 0, 5)
