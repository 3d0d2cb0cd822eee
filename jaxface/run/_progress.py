"""How far the analysis of a clip has come."""

from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

from ._tables import FaceBatch

# True for a bar, or a function of the frames that are done and of all, where that is known.
Progress = bool | Callable[[int, int | None], object]


def shown(
    batches: Iterable[FaceBatch], progress: Progress, total: int | None
) -> Iterator[FaceBatch]:
    """Passes batches on, and tells of each.

    Args:
        batches: of a clip.
        progress: see `analyze_video`.
        total: frames of the clip, if that is known.
    """
    if callable(progress):
        return _told(batches, progress, total)
    return _with_bar(batches, total) if progress else iter(batches)


def _told(
    batches: Iterable[FaceBatch], tell: Callable[[int, int | None], object], total: int | None
) -> Iterator[FaceBatch]:
    done = 0
    for batch in batches:
        done += batch.tally.frames
        tell(done, total)
        yield batch


def _with_bar(batches: Iterable[FaceBatch], total: int | None) -> Iterator[FaceBatch]:
    with tqdm(total=total, unit="frame") as bar:
        for batch in batches:
            bar.update(batch.tally.frames)
            yield batch
