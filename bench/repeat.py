"""The same input gives the same result: twice, in a batch, and under `vmap`."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxface
from jaxface import Camera, Face, Model
from jaxface._params import save_model
from jaxface.cli import main
from jaxface.fit import fit_landmarks
from jaxface.io import default_camera
from jaxface.ops import to_gray

from .figures import Figure, Subject
from .runs import Data, load
from .stages import differing_bytes

_SHORT = 5  # frames of the clips before the seventh


def repeat_figures(data: Data) -> list[Figure]:
    """CSVs of the command line: of a clip alone, again, and as the seventh input."""
    with tempfile.TemporaryDirectory() as folder:
        alone, again, seventh = csv_runs(data, Path(folder))
        subject = Subject("determinism", "openface", "image_sequence")
        return [
            subject.at_most("second run, differing bytes", 0, differing_bytes(alone, again)),
            subject.at_most(
                "seventh of a batch, differing bytes", 0, differing_bytes(alone, seventh)
            ),
        ]


def csv_runs(data: Data, folder: Path) -> tuple[Path, Path, Path]:
    """Three CSVs of one clip: alone, alone again, as the seventh of one command."""
    model = save_model(load(data, "openface"), folder / "models").path
    images = sorted((data.samples / "image_sequence").iterdir())
    clips = [make_clip(folder / f"clip_{i}", images[i : i + _SHORT]) for i in range(6)]
    clips.append(make_clip(folder / "whole", images))
    found = []
    for name, inputs in (("alone", clips[-1:]), ("again", clips[-1:]), ("batch", clips)):
        arguments = ["--out", str(folder / name), "--model", str(model), "--no-compile-cache"]
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
    """Two faces at once and one after the other."""
    images = [jaxface.read_image(data.samples / f"sample{i}.jpg") for i in (1, 3)]
    stacked = jnp.asarray(np.stack(images), jnp.float32)
    boxes = jnp.asarray([[111, 111, 296, 275], [267, 101, 481, 277]], jnp.float32)
    camera = Camera(*map(jnp.float32, default_camera(640, 400)))
    model = load(data, "openface")
    together = jax.jit(jax.vmap(analyze_box, (None, 0, 0, None)))(model, stacked, boxes, camera)
    alone = jax.jit(analyze_box)
    worst = {"landmarks, px": 0.0, "head pose, mm and rad": 0.0, "FHOG": 0.0}
    for i in range(2):
        one = alone(model, stacked[i], boxes[i], camera)
        pairs = zip(worst, (lambda f: f.landmarks, lambda f: f.head_pose, lambda f: f.fhog))
        for name, get in pairs:
            difference = float(jnp.abs(get(one) - get(together)[i]).max())
            worst[name] = max(worst[name], difference)
    subject = Subject("vmap against a loop", "openface", "sample1, sample3")
    return [subject.at_most(f"largest difference of {name}", 0, worst[name]) for name in worst]


def analyze_box(model: Model, image: jax.Array, box: jax.Array, camera: Camera) -> Face:
    config = jaxface.default_config(model)
    fit = fit_landmarks(model.clnf, to_gray(image), box, config=config.fit)
    return jaxface.analyze_frame(model, image, fit, camera, config=config)
