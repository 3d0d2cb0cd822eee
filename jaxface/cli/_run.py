"""One input from its frames to its result files, whatever analyses the frames."""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import InputWarning, OutputError
from ..fit import FitConfig
from ..io import (
    InputKind,
    SequenceReader,
    VideoReader,
    default_camera,
    read_sequence,
    read_video,
)
from ..output import (
    NO_RECORD,
    NO_UNITS,
    ColumnChoice,
    CsvKind,
    Details,
    HogWriter,
    Record,
    Table,
    UnitNames,
    choose_columns,
    make_folder,
    write_aligned,
    write_details,
)
from ..types import Camera
from ._aligned import AlignedFiles
from ._formats import Format
from ._jobs import Job, Mode
from ._overlay import Overlays, spread_frames
from ._results import ResultWriter
from ._tracked import TrackedVideo

Faces = Literal["one", "all"]
Clock = Literal["container", "openface"]
Tracked = Literal["browser", "openface"]  # as browsers play it, or OpenFace's AVI and JPEG


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. Lengths in px."""

    out: Path
    model: str = "base"
    faces: Faces | None = None  # None: all in images, one in videos
    static: bool = False
    at_once: bool = False  # track many frames of a clip at once
    lanes: int | None = None  # clips that are followed together; None: as suits the machine
    wild: bool = False
    multi_view: bool | None = None  # None: as `wild`
    fit: FitConfig | None = None  # in place of the model's own, of `wild` and `multi_view`
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    hog: bool = False
    aligned: bool = False
    aligned_files: AlignedFiles = AlignedFiles()
    formats: tuple[Format, ...] = ("csv",)  # of the results
    columns: ColumnChoice = ColumnChoice()  # of the results
    overlay: tuple[int, ...] | None = None  # frames from 1; empty: some; None: no pictures
    tracked: Tracked | None = None  # the annotated video of a clip, the overlay of an image
    details: bool = True
    fps: float | None = None  # None: the file's
    clock: Clock | None = None  # None: see `io.read_video`


class Source(NamedTuple):
    """The frames of one input, and how to take them."""

    frames: Iterator[UInt8[np.ndarray, "h w 3"]]  # RGB; one frame in image mode
    mode: Mode
    faces: Faces
    camera: Camera
    timestamp: Callable[[int], float]  # s, of the frame with an index from 0
    lost: Collection[int] = frozenset()  # indices of frames that stand for unreadable ones
    boxes: Float[np.ndarray, "f 4"] | None = None  # of the image's faces, px; None: detected


class FaceRecord(NamedTuple):
    """What is written for one face in one frame."""

    row: Table  # of one row
    hog: Float[np.ndarray, "4464"] | None = None
    hog_valid: bool = True
    aligned: UInt8[np.ndarray, "s s 3"] | None = None  # RGB
    accepted: bool = True  # by the validator


@runtime_checkable
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
    files: tuple[Path, ...]  # of results, by their formats; none without rows
    overlays: tuple[Path, ...] = ()
    film: Path | None = None  # the annotated video
    lost: int = 0  # frames that could not be read
    notes: tuple[str, ...] = ()  # what was done to the frames and times of the input
    formats: tuple[Format, ...] = ("csv",)  # that were wanted


def run_job(
    job: Job,
    process: Process,
    options: Options,
    started: Callable[[int | None], None],
    advanced: Callable[[], None],
    record: Record = NO_RECORD,
) -> Outcome:
    """Analyses one input and writes its files.

    Args:
        job: the input.
        process: analyses the frames.
        options: which files to write.
        started: called once with the expected number of frames, if known.
        advanced: called after each frame that `process` took.
        record: what makes the results, for the files that hold it.
    Returns:
        Counts, and the files of results if there was a face.
    Raises:
        InputError: the input cannot be read.
        OutputError: a file cannot be written. The job's .hog and, unless another format follows
            it, its CSV are then as before.
    """
    reader = open_input(job, options)
    started(reader.count)
    counted = _Counted(reader, advanced)
    frames = iter(counted)
    source = source_of(job, reader, options, frames)
    overlays = _overlays(job, reader, options, source.camera)
    if overlays is not None:
        source = source._replace(frames=overlays.watch(frames))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(frames))  # stops the decoder if all else fails
        results = process(source)
        base, kind = options.out / job.name, _csv_kind(source)
        film = _film(base, job, options)
        units = results.units if options.columns.action_units else NO_UNITS
        writer = stack.enter_context(ResultWriter(base, options.formats, kind, units))
        hog = options.out / f"{job.name}.hog"
        hogs = stack.enter_context(HogWriter(hog)) if options.hog else None
        sights = [sight for sight in (overlays, film) if sight is not None]
        faces = _write_records(job, options, results, writer, hogs, sights)
        last = results.action_units() if options.columns.action_units else None
        if film is not None and last is not None:
            last = list(last)  # the video shows them, too
        files = writer.finish(last, Record({**record, **_timing(reader, options)}))
        if hogs is not None:
            hogs.finish()
    shot = None if film is None else _shoot(film, job, options, source, units, last)
    drawn = () if overlays is None else _finish_overlays(job, options, overlays, counted.count)
    if options.details:
        details = _details(job, options, source.camera, files)
        if options.tracked == "openface":
            image = drawn[0].name if drawn else None
            details = details._replace(video=None if shot is None else shot.name, image=image)
        details = details._replace(action_units=bool(units.presence), columns=options.columns)
        write_details(options.out / f"{job.name}_of_details.txt", details)
    lost = len(source.lost)
    counts = counted.count, writer.rows, faces
    return Outcome(*counts, files, drawn, shot, lost, reader.notes, options.formats)


def _timing(reader: VideoReader | SequenceReader, options: Options) -> dict[str, object]:
    """How the times of the rows came about, for the files that hold it."""
    clock = reader.clock if isinstance(reader, VideoReader) and options.fps is None else None
    return {
        "frame_rate": options.fps or reader.fps or None,  # None: not known
        "clock": "openface" if clock is None else clock.choice,
        "notes": list(reader.notes),
    }


def _write_records(
    job: Job,
    options: Options,
    results: Results,
    writer: ResultWriter,
    hogs: HogWriter | None,
    sights: Sequence[Overlays | TrackedVideo],
) -> int:
    """Hands every record to the files that want it. Returns the rows whose face was found."""
    folder, faces = options.out / f"{job.name}_aligned", 0
    for record in results:
        row = record.row
        writer.write(choose_columns(row, options.columns))
        faces += int(row.success.sum())
        if hogs is not None and record.hog is not None:
            hogs.write(record.hog, record.hog_valid)
        if options.aligned and record.aligned is not None:
            _write_aligned(folder, job, options.aligned_files, record)
        for sight in sights:
            sight.add(row)
    return faces


def _write_aligned(folder: Path, job: Job, files: AlignedFiles, record: FaceRecord) -> None:
    if record.aligned is None or not (record.hog_valid or files.failed):
        return
    frame = None if job.mode == "image" else int(record.row.frame[0])
    gray = files.gray and record.accepted  # as OpenFace, whose black pictures are in colour
    face_id = int(record.row.face_id[0])
    write_aligned(folder, record.aligned, face_id=face_id, frame=frame, gray=gray)


def _film(base: Path, job: Job, options: Options) -> TrackedVideo | None:
    if options.tracked is None or job.mode != "video":
        return None
    return TrackedVideo(base, openface=options.tracked == "openface")


def _shoot(
    film: TrackedVideo,
    job: Job,
    options: Options,
    source: Source,
    units: UnitNames,
    action_units: Iterable[tuple[np.ndarray, np.ndarray]] | None,
) -> Path | None:
    """Reads the clip again and writes its video."""
    reader = open_input(job, options)
    asked = options.fps is not None or options.clock is not None
    return film.write(
        reader,
        fps=options.fps or reader.fps or None,
        units=units,
        action_units=action_units,
        camera=source.camera,
        timestamp=source.timestamp if asked else reader.shown_at,
    )


def _overlays(
    job: Job, reader: VideoReader | SequenceReader, options: Options, camera: Camera
) -> Overlays | None:
    """What draws the frames that the user wants to see, if any."""
    base = options.out / job.name
    if job.mode == "image" and (options.tracked or options.overlay is not None):
        end = ".jpg" if options.tracked == "openface" else "_overlay.png"
        return Overlays(base, None, camera, still=end)
    if options.overlay is None:
        return None
    if options.overlay:
        return Overlays(base, options.overlay, camera)
    # Few files name no count, and decoding takes little of the time of an analysis.
    count = sum(1 for _ in reader) if reader.count is None else reader.count
    return Overlays(base, spread_frames(count), camera)


def _finish_overlays(
    job: Job, options: Options, overlays: Overlays, count: int
) -> tuple[Path, ...]:
    overlays.finish()
    if options.overlay and overlays.missing:
        numbers = ", ".join(map(str, sorted(overlays.missing)))
        message = f"{job.path}: no overlay of frame {numbers}: the clip has {count} frames"
        warnings.warn(message, InputWarning, stacklevel=2)
    return tuple(overlays.paths)


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


def open_input(job: Job, options: Options) -> VideoReader | SequenceReader:
    """Opens an input that is known to be a video, a folder or an image.

    Raises:
        InputError: it cannot be read.
    """
    if job.kind is InputKind.VIDEO:
        return read_video(job.path, clock=options.clock)
    return read_sequence(job.path)


def source_of(
    job: Job,
    reader: VideoReader | SequenceReader,
    options: Options,
    frames: Iterator[UInt8[np.ndarray, "h w 3"]],
) -> Source:
    """The frames of an input with the camera, times and faces that the user wants."""
    camera = default_camera(
        height=reader.height,
        width=reader.width,
        fx=options.fx,
        fy=options.fy,
        cx=options.cx,
        cy=options.cy,
    )
    faces = options.faces or ("all" if job.mode == "image" else "one")
    lost = reader.lost if isinstance(reader, SequenceReader) else frozenset()
    fps = options.fps
    timestamp = reader.timestamp if fps is None else (lambda index: index * (1.0 / fps))
    return Source(frames, job.mode, faces, camera, timestamp, lost, job.boxes)


def _csv_kind(source: Source) -> CsvKind:
    if source.mode == "image":
        return "image"
    return "video" if source.faces == "one" else "multi_face"


def _details(job: Job, options: Options, camera: Camera, files: Sequence[Path]) -> Details:
    csv = next((path for path in files if path.suffix == ".csv"), None)
    return Details(
        source=job.given,
        full_path=str(job.path.resolve()),
        camera=camera,
        hog=f"{Path(job.name).name}.hog" if options.hog else None,
        aligned=f"{Path(job.name).name}_aligned" if options.aligned else None,
        csv=csv.name if csv else None,
    )
