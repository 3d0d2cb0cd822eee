"""Clips spread over devices: four of the CPU's, which only a process of its own can have."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Model
from jaxface.models import save_model
from jaxface.reference.comparison.clips import ROOT, Data, load

from .toy_face import draw_clip, watchful_model

# Clips as ranges of the sample sequence: more than devices, some shorter than a chunk.
CLIPS = ((0, 19), (5, 8), (10, 26), (12, 13), (3, 12), (20, 28))
COLUMNS = ("frame", "success", "confidence", "landmarks", "gaze", "head_pose")
COLUMNS += ("au_intensity", "au_presence")

_SCRIPT = """
import sys
import jax, numpy as np
import jaxface
from tests.test_devices import CLIPS, COLUMNS, damaged, read_frames

model, samples, out, count = sys.argv[1:]
assert len(jax.devices()) == 4
model, frames = jaxface.load_model(model), read_frames(samples)
clips = [frames[slice(*clip)] for clip in CLIPS]
videos = [*clips[:2], "gone.wmv", *clips[2:4], damaged(frames), [], *clips[4:]]
found = jaxface.analyze_batch(model, videos, fps=10.0, devices=jax.devices()[: int(count)])
errors = [(i, str(f)) for i, f in enumerate(found) if isinstance(f, Exception)]
tables = [f for f in found if isinstance(f, jaxface.Analysis)]
arrays = {f"{i} {c}": getattr(t, c) for i, t in enumerate(tables) for c in COLUMNS}
np.savez(out, errors=np.array(errors), **arrays)
"""


def read_frames(samples: str | Path) -> list[np.ndarray]:
    return list(jaxface.read_video(Path(samples) / "default.wmv"))[:28]


def damaged(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Eleven frames, the tenth without its colours."""
    return [*frames[:9], frames[9][..., 0], frames[10]]


@pytest.fixture(scope="module")
def model(openface_dir, model_dir) -> Model:
    return load(Data(openface_dir, model_dir), "openface")


@pytest.fixture(scope="module")
def alone(model, samples_dir) -> list[Analysis]:
    frames = read_frames(samples_dir)
    return [jaxface.analyze_video(model, frames[slice(*clip)], fps=10.0) for clip in CLIPS]


@pytest.mark.parametrize("count", (4,))
def test_clips_on_devices_equal_clips_alone(model, samples_dir, alone, tmp_path, count):
    path, out = save_model(model, tmp_path).path, tmp_path / "found.npz"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(path), str(samples_dir), str(out), str(count)],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    found = np.load(out)
    (gone, colours, empty) = found["errors"]
    assert gone[0] == "2" and "gone.wmv: expected " in gone[1]
    assert colours[0] == "5" and colours[1].startswith("frame 9: expected an RGB image")
    assert empty[0] == "6" and empty[1].startswith("video: expected at least one frame")
    assert sum(name.endswith("landmarks") for name in found.files) == len(CLIPS)
    for number, expected in enumerate(alone):
        for column in COLUMNS:
            ours = found[f"{number} {column}"]
            np.testing.assert_array_equal(ours, getattr(expected, column), f"{number} {column}")


_IN_LANES = """
import sys
import jax, numpy as np
import jaxface
from tests.test_devices import COLUMNS, shown_clips
from tests.toy_face import watchful_model

model, clips = watchful_model(), shown_clips()
broken = [*clips[0][:5], clips[0][5][..., 0]]
arrays = {}
for name, order in {"all": range(len(clips)), "some": (6, None, 1, 0)}.items():
    videos = [broken if i is None else clips[i] for i in order]
    found = jaxface.analyze_batch(model, videos, fps=10.0, lanes=4, devices=jax.devices()[:2])
    for i, table in zip(order, found):
        if i is None:
            assert str(table).startswith("frame 5: expected an RGB image"), table
            continue
        assert table.lanes == 4
        arrays.update({f"{name} {i} {c}": getattr(table, c) for c in COLUMNS})
np.savez(sys.argv[1], **arrays)
"""


def shown_clips() -> list[list[np.ndarray]]:
    """Clips of several lengths with faces that vanish: more than four lanes of two devices hold."""
    whole = [[1] * 20, [1] * 6 + [0] * 3 + [1] * 14, [0] * 9 + [1] * 3, [1] * 8, [0] * 5, [1] * 17]
    return [list(draw_clip(shown)) for shown in (*whole, [1] * 4 + [0] * 2 + [1] * 5)]


def test_lanes_of_devices_equal_clips_alone(tmp_path):
    """Several lanes on each of two devices: decisions as alone, whoever is beside them."""
    out = tmp_path / "found.npz"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", _IN_LANES, str(out)],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    found, model = np.load(out), watchful_model()
    for number, clip in enumerate(shown_clips()):
        alone = jaxface.analyze_video(model, clip, fps=10.0)
        np.testing.assert_array_equal(found[f"all {number} success"], alone.success)
        np.testing.assert_allclose(found[f"all {number} landmarks"], alone.landmarks, atol=1e-3)
        np.testing.assert_allclose(found[f"all {number} head_pose"], alone.head_pose, atol=0.01)
    for name in found.files:
        if name.startswith("some"):
            other = name.replace("some", "all")
            np.testing.assert_array_equal(found[name], found[other], name)


def test_a_batch_needs_a_device(model):
    with pytest.raises(ValueError, match="^devices: expected at least one, got none"):
        jaxface.analyze_batch(model, [], devices=[])
