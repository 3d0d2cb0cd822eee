"""Loss curves as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def draw_curves(path: Path, curves: Mapping[str, Sequence[float]], *, title: str) -> None:
    """Draws losses over training steps, on a logarithmic axis, smoothed.

    Args:
        path: of the PNG.
        curves: a loss per step, by name.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in curves.items():
        losses = np.asarray(values, np.float64)
        width = max(len(losses) // 100, 1)
        smooth = np.convolve(losses, np.full(width, 1 / width), "valid")
        axes.plot(np.arange(len(smooth)) + width / 2, smooth, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
