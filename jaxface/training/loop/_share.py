"""Smaller trainings: a share of every count."""


def share_of(count: int, share: float, *, least: int = 1) -> int:
    """A share of a count, rounded down, but not less than `least`.

    Raises:
        ValueError: the share is not positive.
    """
    if not share > 0:
        raise ValueError(f"share: expected a positive number, got {share}")
    return max(int(share * count), least)
