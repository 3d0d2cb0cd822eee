"""The page: what stands in it, put into the template `page.html`."""

import base64
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._texts import script_json

if TYPE_CHECKING:
    import jinja2

# Nothing is fetched: what the page may use is in it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; font-src data:; base-uri 'none'; "
    "form-action 'none'"
)


class Film(NamedTuple):
    """The clip, or a picture, as it stands in the page."""

    data: bytes
    media: str  # video/mp4 or image/jpeg
    width: int  # px
    height: int  # px
    start: float  # s, time of its first frame
    note: str  # what it is, for the reader
    words: str  # what it is, for those who do not see it

    @property
    def moving(self) -> bool:
        """Whether it is a video."""
        return self.media.startswith("video/")

    @property
    def source(self) -> str:
        """As a URL that holds it."""
        return f"data:{self.media};base64,{base64.b64encode(self.data).decode('ascii')}"


class Table(NamedTuple):
    """A table of texts."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1  # columns from the left that are words and no numbers


def render(
    page: Mapping[str, Any],
    *,
    figures: Any,
    plan: Mapping[str, Any] | None,
    library: str,
    version: str,
) -> bytes:
    """Makes the page.

    Args:
        page: what the template names; all texts in it are escaped there.
        figures: the machine-readable block, which JSON can hold.
        plan: what the page's script is told; None where there is no plot.
        library: BokehJS.
        version: of jaxface.
    Returns:
        HTML in UTF-8. Of names that UTF-8 cannot hold, signs are written as escapes.
    """
    from markupsafe import Markup

    text = _template().render(
        page=page,
        policy=_POLICY,
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
        library=Markup(library),
        figures=Markup(script_json(figures)),
        plan=Markup(script_json(plan)) if plan is not None else "",
        version=version,
    )
    return text.encode("utf-8", "backslashreplace")


@functools.cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_part("page.html"))


def _part(name: str) -> str:
    return (
        importlib.resources.files("jaxface.output.report")
        .joinpath(name)
        .read_text(encoding="utf-8")
    )
