"""One input from its frames to its result files, whatever analyses the frames."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import OutputError
from ..io import (
    InputKind,
    Intrinsics,
    SequenceReader,
    VideoReader,
    default_camera,
    read_sequence,
    read_video,
)
from ..output import (
    CsvKind,
    CsvWriter,
    Details,
    HogWriter,
    Table,
    UnitNames,
    make_folder,
    write_aligned,
    write_details,
)
from ._jobs import Job, Mode

Faces = Literal["one", "all"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. Lengths in px."""

    out: Path
    model: str = "base"
    faces: Faces | None = None  # None: all in images, one in videos
    static: bool = False
    at_once: bool = False  # track many frames of a clip at once
    wild: bool = False
    multi_view: bool | None = None  # None: as `wild`
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    hog: bool = False
    aligned: bool = False
    details: bool = True


class Source(NamedTuple):
    """The frames of one input, and how to take them."""

    frames: Iterator[UInt8[np.ndarray, "h w 3"]]  # RGB; one frame in image mode
    mode: Mode
    faces: Faces
    camera: Intrinsics
    timestamp: Callable[[int], float]  # s, of the frame with an index from 0


class FaceRecord(NamedTuple):
    """What is written for one face in one frame."""

    row: Table  # of one row
    hog: Float[np.ndarray, "4464"] | None = None
    hog_valid: bool = True
    aligned: UInt8[np.ndarray, "112 112 3"] | None = None  # RGB


class Results(Protocol):
    """Analysis of one source."""

    @property
    def units(self) -> UnitNames:
        """Action units of the rows, in the order of their columns."""
        ...

    def __iter__(self) -> Iterator[FaceRecord]:
        """Yields a record per face and frame, in the order of the CSV's rows."""
        ...

    def action_units(
        self,
    ) -> Iterable[tuple[Float[np.ndarray, " u"], Float[np.ndarray, " c"]]] | None:
        """Once iterated: intensity and presence per row, or None if the rows had them."""
        ...


Process = Callable[[Source], Results]


class Outcome(NamedTuple):
    """What became of one input."""

    frames: int
    rows: int
    faces: int  # rows whose face was found or tracked
    csv: Path | None


def run_job(
    job: Job,
    process: Process,
    options: Options,
    started: Callable[[int | None], None],
    advanced: Callable[[], None],
) -> Outcome:
    """Analyses one input and writes its files.

    Args:
        job: the input.
        process: analyses the frames.
        options: which files to write.
        started: called once with the expected number of frames, if known.
        advanced: called after each frame that `process` took.
    Returns:
        Counts, and the CSV if there was a face.
    Raises:
        InputError: the input cannot be read.
        OutputError: a file cannot be written. The job's CSV and .hog are then as before.
    """
    reader = _open(job)
    started(reader.count)
    counted = _Counted(reader, advanced)
    frames = iter(counted)
    source = _source(job, reader, options, frames)
    kind = _csv_kind(source)
    aligned = options.out / f"{job.name}_aligned"
    faces = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(frames))  # stops the decoder if all else fails
        results = process(source)
        path = options.out / f"{job.name}.csv"
        writer = stack.enter_context(CsvWriter(path, kind=kind, units=results.units))
        hog = options.out / f"{job.name}.hog"
        hogs = stack.enter_context(HogWriter(hog)) if options.hog else None
        for record in results:
            writer.write(record.row)
            faces += int(record.row.success.sum())
            if hogs is not None and record.hog is not None:
                hogs.write(record.hog, record.hog_valid)
            if options.aligned and record.aligned is not None:
                frame = None if job.mode == "image" else int(record.row.frame[0])
                face_id = int(record.row.face_id[0])
                write_aligned(aligned, record.aligned, face_id=face_id, frame=frame)
        csv = writer.finish(results.action_units())
        if hogs is not None:
            hogs.finish()
    if options.details:
        details = _details(job, options, source.camera, csv)
        details = details._replace(action_units=bool(results.units.presence))
        write_details(options.out / f"{job.name}_of_details.txt", details)
    return Outcome(counted.count, writer.rows, faces, csv)


def check_output_folder(folder: Path) -> None:
    """Creates the output folder, so that a wrong one is noticed before any work is done.

    Args:
        folder: the folder.
    Raises:
        OutputError: it cannot be created, or is no folder, or is read-only.
    """
    make_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(folder, "no permission to write there")


@dataclasses.dataclass
class _Counted:
    """Counts the frames that have been taken."""

    frames: Iterable[UInt8[np.ndarray, "h w 3"]]
    advanced: Callable[[], None]
    count: int = 0

    def __iter__(self) -> Generator[UInt8[np.ndarray, "h w 3"], None, None]:
        for frame in self.frames:
            self.count += 1
            yield frame
            self.advanced()


def _open(job: Job) -> VideoReader | SequenceReader:
    if job.kind is InputKind.VIDEO:
        return read_video(job.path)
    return read_sequence(job.path)


def _source(
    job: Job,
    reader: VideoReader | SequenceReader,
    options: Options,
    frames: Iterator[UInt8[np.ndarray, "h w 3"]],
) -> Source:
    camera = default_camera(
        reader.width, reader.height, options.fx, options.fy, options.cx, options.cy
    )
    faces = options.faces or ("all" if job.mode == "image" else "one")
    return Source(frames, job.mode, faces, camera, reader.timestamp)


def _csv_kind(source: Source) -> CsvKind:
    if source.mode == "image":
        return "image"
    return "video" if source.faces == "one" else "multi_face"


def _details(job: Job, options: Options, camera: Intrinsics, csv: Path | None) -> Details:
    return Details(
        source=job.given,
        full_path=str(job.path.resolve()),
        camera=camera,
        hog=f"{job.name}.hog" if options.hog else None,
        aligned=f"{job.name}_aligned" if options.aligned else None,
        csv=csv.name if csv else None,
    )
