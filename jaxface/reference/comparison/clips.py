"""Golden runs of OpenFace, and the same clips and images run through jaxface."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import jaxface
from jaxface import Analysis, Config, Extras, Model

from ...io import SequenceReader, VideoReader, read_sequence
from ...models.openface import read_model
from ...output import Table
from .golden_runs import read_highprec

ROOT = Path(__file__).resolve().parents[3]  # of the checkout, where jaxface runs from one
KINDS = ("openface", "openface-ceclm", "openface-clm")
PREFIX = {"openface": "", "openface-ceclm": "ceclm_", "openface-clm": "clm_"}
MODES = {"": {}, "_multi_view": {"multi_view": True}, "_wild": {"wild": True}}
CLIPS = {
    "openface": ("default.wmv", "image_sequence", "2015-10-15-15-14.avi"),
    "openface-ceclm": ("default.wmv", "image_sequence"),
    "openface-clm": ("default.wmv",),
}


@dataclasses.dataclass(frozen=True)
class Data:
    """Folders of the shared OpenFace data."""

    openface: Path
    models: Path

    @property
    def samples(self) -> Path:
        return self.openface / "samples"

    @property
    def golden(self) -> Path:
        return self.openface / "golden"

    @property
    def cen(self) -> Path:
        return self.openface / "cen-from-ccnf"


def find_data(model_dir: Path | None = None) -> Data:
    """The data in $JAXFACE_SHARED, or beside the repository."""
    shared = Path(os.environ.get("JAXFACE_SHARED", ROOT.parent / "shared"))
    openface = shared / "openface"
    return Data(openface, model_dir or openface / "models" / "2.2.0" / "originals")


@functools.cache
def load(data: Data, kind: str) -> Model:
    """A model, ready for its default configuration."""
    cen = data.cen if kind == "openface-ceclm" else None
    model = read_model(data.models, kind, cen_dir=cen, allow_modified=cen is not None)
    return jaxface.prepare_model(model, jaxface.default_config(model))


def golden_run(data: Data, name: str) -> Table:
    """OpenFace's own values, e.g. of the run "default"."""
    return read_highprec(data.golden / name)[0]


def open_clip(data: Data, clip: str) -> VideoReader | SequenceReader:
    path = data.samples / clip
    return read_sequence(path) if path.is_dir() else jaxface.read_video(path)


def run_clip(
    data: Data,
    kind: str,
    clip: str,
    *,
    frames: int | None = None,
    faces: str = "one",
    config: Config | None = None,
    extras: Extras = Extras(),
) -> Analysis:
    """Analyses the first frames of a clip."""
    reader = open_clip(data, clip)
    return jaxface.analyze_video(
        load(data, kind),
        islice(iter(reader), frames),
        faces=faces,
        fps=reader.fps,
        config=config,
        extras=extras,
    )


def run_images(
    data: Data, kind: str, mode: str, names: Sequence[str] | None = None
) -> Iterator[tuple[str, Analysis, Table]]:
    """Analyses sample images of which there is a golden run: name, ours, OpenFace's."""
    model = load(data, kind)
    config = jaxface.default_config(model, static_action_units=True, **MODES[mode])
    for path in sorted(data.samples.glob("sample*")):
        run = f"{PREFIX[kind]}img_{path.stem}{mode}"
        if (data.golden / run).is_dir() and (names is None or path.stem in names):
            found = jaxface.analyze_image(model, path, config=config)
            yield path.stem, found, golden_run(data, run)
