"""Model files of format 2, as they were up to version 0.1, read as those of today.

There the settings followed from what a model was made of, and the search was told by which of
three fields were there. Both are data of the model now.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..detect import OPENFACE_FRAME
from ..fit import OPENFACE_FIT, OPENFACE_WILD_FIT, base_settings, ceclm_settings
from ..types import MULTI_PIE_68

_WARP = ("centres", "mean", "std", "mask", "min_x", "min_y")
_WARP += ("triangles", "triangle_id", "alpha", "beta")
Described = dict[str, Any]  # a Module or a record as the manifest describes it
ReadTensor = Callable[[str], np.ndarray]


def upgrade(described: Any, read: ReadTensor) -> Any:
    """A description of format 3 from one of format 2.

    Args:
        described: of a whole model or of anything in one.
        read: gives a tensor of the file by its name.
    """
    if isinstance(described, list):
        return [upgrade(item, read) for item in described]
    if not isinstance(described, dict) or "class" not in described:
        return described
    name = described["class"]
    fields = {key: upgrade(value, read) for key, value in described["fields"].items()}
    change = _CHANGES.get(name)
    return {"class": name, "fields": fields if change is None else change(fields, read)}


def describe_record(record: Any) -> Any:
    """A frozen dataclass of plain values, as the manifest describes it."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        pairs = ((f.name, getattr(record, f.name)) for f in dataclasses.fields(record))
        fields = {name: describe_record(value) for name, value in pairs}
        return {"class": type(record).__name__, "fields": fields}
    if isinstance(record, tuple):
        return [describe_record(item) for item in record]
    return record


def _model(fields: Described, read: ReadTensor) -> Described:
    detector, clnf = fields["detector"]["fields"], fields["clnf"]["fields"]
    if clnf["reported"] is not None:
        # At OpenFace's factor of 0.709 it misses faces whose size lies between two levels of the
        # pyramid; the last threshold takes back the false faces of the other levels.
        config = {"factor": 0.84, "thresholds": [0.6, 0.7, 0.75]}
        detector["config"] = {"class": "DetectConfig", "fields": config}
    return fields


def _mtcnn(fields: Described, read: ReadTensor) -> Described:
    fields.setdefault("landmark_frame", list(OPENFACE_FRAME))  # older files: OpenFace's networks
    return fields


def _clnf(fields: Described, read: ReadTensor) -> Described:
    early, regressor = fields.pop("early_termination"), fields.pop("regressor", None)
    reported = fields.setdefault("reported", None)
    fields.pop("stacks", None)
    triangles = read(fields.pop("triangles")["tensor"]).tolist()
    scheme = dataclasses.replace(MULTI_PIE_68, triangles=tuple(map(tuple, triangles)))
    if reported is not None:
        points = [list(group) for group in MULTI_PIE_68.five_points]
        search = {"five_points": points, "regressor": regressor}
        fields["search"] = {"class": "Guided", "fields": search}
    elif early is not None:
        fields["search"] = {"class": "TwoRounds", "fields": early["fields"]}
    else:
        fields["search"] = {"class": "OneRound", "fields": {}}
    settings = [OPENFACE_FIT, OPENFACE_WILD_FIT]
    if fields["main"]["fields"]["experts"][0]["class"] == "CENExperts":
        settings = [ceclm_settings(config) for config in settings]
    if reported is not None:
        settings = [base_settings(config) for config in settings]
    fields["config"], fields["wild"] = map(describe_record, settings)
    return fields | {"scheme": describe_record(scheme)}


def _ccnf_experts(fields: Described, read: ReadTensor) -> Described:
    fields.pop("banks", None)
    return fields


def _validator(fields: Described, read: ReadTensor) -> Described:
    fields.pop("bands", None)
    warp = {name: fields.pop(name) for name in _WARP}
    return fields | {"warp": {"class": "FaceWarp", "fields": warp}}


_CHANGES: dict[str, Callable[[Described, ReadTensor], Described]] = {
    "Model": _model,
    "MTCNN": _mtcnn,
    "CLNF": _clnf,
    "CCNFExperts": _ccnf_experts,
    "Validator": _validator,
}
