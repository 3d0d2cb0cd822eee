"""Warnings about inputs, on their way to the user."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def warnings_to(show: Callable[[str], None]) -> Iterator[None]:
    """Sends warnings about inputs, and only those, to `show` while it lasts."""
    from ..errors import InputWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        usual = warnings.showwarning

        def showwarning(message, category, *rest):  # signature set by the warnings module
            if issubclass(category, InputWarning):
                show(str(message))
            else:
                usual(message, category, *rest)

        warnings.showwarning = showwarning
        yield
