"""Loss curves as pictures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def draw_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    labels: tuple[str, str] = ("epoch", "loss"),
) -> None:
    """Draws losses over epochs, or other figures over steps from 1.

    Args:
        path: of a PNG; its folder must exist.
        panels: for each panel's title, the curves by name.
        labels: of the axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    for axes, (title, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, losses in curves.items():
            axes.plot(np.arange(1, len(losses) + 1), losses, label=name, marker=".")
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        axes.grid(alpha=0.3)
        if len(curves) > 1:
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def draw_losses(path: Path, title: str, losses: Mapping[str, np.ndarray]) -> None:
    """Draws the losses of many steps as means over a hundredth of them each."""
    width = max(len(next(iter(losses.values()))) // 100, 1)
    curves = {
        name: values[: len(values) // width * width].reshape(-1, width).mean(1)
        for name, values in losses.items()
    }
    draw_curves(path, {f"{title} (an epoch: {width} steps)": curves})
