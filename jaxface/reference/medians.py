"""Running medians of the descriptors as written in specification 03, C.2, step 4, and C.3."""

import numpy as np

FHOG_RANGE = (-0.005, 1.0, 1000)  # lowest value, highest value, bins
GEOMETRY_RANGE = (-60.0, 60.0, 10000)


class RunningMedian:
    """Median of each dimension by a histogram; `update` returns the new medians."""

    def __init__(self, dimensions, low, high, bins):
        self.low, self.length, self.bins = low, high - low, bins
        self.histogram = np.zeros((dimensions, bins), np.int32)
        self.count = 0

    def update(self, descriptor, counted):
        """Adds `descriptor` if `counted`; returns the medians either way."""
        if counted:
            position = (descriptor - self.low) * self.bins / self.length
            bins = np.clip(position, 0, self.bins - 1).astype(int)
            self.histogram[np.arange(len(bins)), bins] += 1
            self.count += 1
        if self.count == 1:
            return np.array(descriptor, np.float64)
        wanted = (self.count + 1) // 2
        j = np.argmax(np.cumsum(self.histogram, axis=1) >= wanted, axis=1)
        return self.low + j * self.length / self.bins + 0.5 * self.length / self.bins


def run_medians(fhogs, geometries, success):
    """Medians (t, 4464) and (t, 238) in force after each frame; failed frames hold zeros."""
    fhog_median = RunningMedian(fhogs.shape[1], *FHOG_RANGE)
    geometry_median = RunningMedian(geometries.shape[1], *GEOMETRY_RANGE)
    fhog_now, geometry_now = np.zeros(fhogs.shape[1]), np.zeros(geometries.shape[1])
    fhog_all, geometry_all = [], []
    for t, good in enumerate(success):
        if t % 2 == 0:  # frames count from 1, so these are the odd ones
            fhog_now = np.maximum(fhog_median.update(fhogs[t], good), 0)
            geometry_now = geometry_median.update(geometries[t], good)
        fhog_all.append(fhog_now)
        geometry_all.append(geometry_now)
    return np.array(fhog_all), np.array(geometry_all)
