"""Reports of results: one page of HTML, with the clip, plots, events and cohorts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..output import write_file
from ..types import Camera
from ._checks import AnyImage
from ._results import Analysis


def write_report(
    path: str | Path,
    results: Analysis | str | Path | Sequence[Analysis | str | Path],
    *,
    video: str | Path | Iterable[AnyImage] | None = None,
    camera: Camera | None = None,
    cohorts: str | Path | Mapping[str, str] | None = None,
    skip: Callable[[InputError], object] | None = None,
) -> Path:
    """Writes a report: one page of HTML that needs no other file and no network.

    Of one result it shows the clip with what was found, which moves with plots of action units,
    head pose, gaze and confidence; blinks and smiles; left against right; what made it. Of
    several results it shows the figures of each, of all and of cohorts. All figures are in the page
    as JSON, too, in the element `jaxface-report`.

    Args:
        path: the page.
        results: an analysis, a file that `read_results` reads, a folder of such files, or several
            of these. A folder always makes a report of several.
        video: the clip of the result: a file, a folder of images, or RGB frames (h, w, 3), 0 to
            255. By default the file that was analysed, or what the record of the run names, if it
            is there and has not changed; else the `_tracked.mp4` beside the result, or the aligned
            faces in it.
        camera: intrinsics, px, that the clip was analysed with; by default what the run's details
            say, else OpenFace's guess.
        cohorts: of results by their names, that is of files without the suffix; or a file of these,
            as of `jaxface validate`.
        skip: is called with the error of each result that cannot be read; the others make the
            report. None: the error is raised.
    Returns:
        The path.
    Raises:
        InputError: a result, the clip or the cohorts cannot be read, or there is no result.
        OutputError: the page cannot be written; what was there before is untouched.
        ModuleNotFoundError: bokeh is missing: `pip install 'jaxface[report]'`.
        ValueError: there is a clip, but not a single result.
    """
    from ._report_pages import report_page  # what it takes, other functions need not wait for

    page = report_page(results, video=video, camera=camera, cohorts=cohorts, skip=skip)
    return write_file(Path(path), page)
