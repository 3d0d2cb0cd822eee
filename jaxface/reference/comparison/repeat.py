"""The same input gives the same result: in a command of its own or of many, and under `vmap`."""

from pathlib import Path

import jax
import numpy as np

import jaxface

from ...cli import main
from ...fit import fit_landmarks
from ...io import pad_to_canvas
from ...models import save_model
from ...ops import to_gray
from .clips import Data, load
from .figures import Figure, Subject
from .golden_detections import DETECTIONS, corners

_SHORT = 5  # frames of the clips before the seventh


def csv_runs(data: Data, folder: Path) -> tuple[Path, Path, Path]:
    """Three CSVs of one clip: alone, alone again, as the seventh of one command."""
    model = save_model(load(data, "openface"), folder / "models").path
    images = sorted((data.samples / "image_sequence").iterdir())
    clips = [make_clip(folder / f"clip_{i}", images[i : i + _SHORT]) for i in range(6)]
    clips.append(make_clip(folder / "whole", images))
    found = []
    for name, inputs in (("alone", clips[-1:]), ("again", clips[-1:]), ("batch", clips)):
        arguments = ["--out", str(folder / name), "--model", str(model), "--no-compile-cache"]
        arguments += [
            "--lanes",
            "2",
        ]  # on their number, and on nothing else of a batch, bits depend
        assert main(["analyze", *map(str, inputs), *arguments]) == 0
        found.append(folder / name / "whole.csv")
    return found[0], found[1], found[2]


def make_clip(folder: Path, images: list[Path]) -> Path:
    """A folder of links to images."""
    folder.mkdir()
    for image in images:
        (folder / image.name).symlink_to(image.resolve())
    return folder


def vmap_figures(data: Data) -> list[Figure]:
    """Two faces fitted at once under `vmap`, and one after the other.

    They are equal up to float32 rounding, which the fit's kernel and warp grids enlarge: the
    bounds are those for images against OpenFace.
    """
    model, names = load(data, "openface"), ("sample1", "sample3")
    config = jaxface.default_config(model, static_action_units=True)
    canvases, sizes, boxes, alone = [], [], [], []
    for name in names:
        image = jaxface.read_image(data.samples / f"{name}.jpg")
        box = corners(np.array(DETECTIONS[f"{name}.jpg"], np.float32))
        canvas, size = pad_to_canvas(image)
        alone.append(jaxface.analyze_image(model, image, boxes=box, config=config).landmarks[0])
        canvases.append(canvas.astype(np.float32))
        sizes.append(size)
        boxes.append(box[0])

    def fit(clnf, image, size, box):
        return fit_landmarks(clnf, to_gray(image), box, size=size, config=config.fit).landmarks

    inputs = np.stack(canvases), np.array(sizes, np.int32), np.stack(boxes)
    together = jax.jit(jax.vmap(fit, (None, 0, 0, 0)))(model.clnf, *inputs)
    errors = np.linalg.norm(np.stack(alone) - np.asarray(together), axis=-1)
    subject = Subject("vmap against a loop", "openface", ", ".join(names))
    return [
        subject.at_most("mean difference, px", 0.03, errors.mean()),
        subject.at_most("largest difference, px", 0.3, errors.max()),
    ]
