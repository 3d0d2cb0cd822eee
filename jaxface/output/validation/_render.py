"""Reports as Markdown and as one page of HTML."""

import html
import re
from collections.abc import Iterator, Sequence

from ._report import Section, Table

# Nothing is fetched or run; a page's own style is all that it may use.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem;
  max-width: 76rem; color: #1b1f24; background: #fff; }
h1 { font-size: 1.5rem; } h2, summary { font-size: 1.15rem; font-weight: 600; }
h2 { margin: 1.6rem 0 .4rem; } summary { cursor: pointer; margin: .8rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .3rem 0 1.2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #d8dee4; text-align: right; }
th { vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } }
"""
_SIGNS = re.compile(r"([\\`*_\[\]<>|&#~])")  # that Markdown gives a meaning


def to_markdown(sections: Sequence[Section]) -> str:
    """A report as Markdown; texts show as they are.

    Args:
        sections: of `report`.
    """
    blocks: list[str] = []
    for number, section in enumerate(sections):
        blocks.append(f"{'#' if number == 0 else '##'} {_marked(section.title)}")
        blocks += [_marked(line) for line in section.lines]
        if section.bullets:
            blocks.append("\n".join(f"- {_marked(item)}" for item in section.bullets))
        for table in section.tables:
            blocks += [f"**{_marked(table.title)}**", _markdown_table(table)]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.head) - 1)]
    rows = [[*map(_marked, row)] for row in (table.head, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _marked(text: str) -> str:
    """Text in which Markdown sees no sign of its own, on one line."""
    return _SIGNS.sub(r"\\\1", " ".join(_shown(text).split()))


def to_html(sections: Sequence[Section]) -> str:
    """A report as one page of HTML, which needs no other file, no network and no scripts.

    Args:
        sections: of `report`.
    """
    body = "\n".join(line for i, section in enumerate(sections) for line in _section(i, section))
    title = _escaped(sections[0].title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _section(number: int, section: Section) -> Iterator[str]:
    title = _escaped(section.title)
    if section.detail:
        yield f"<details><summary>{title}</summary>"
    else:
        level = "h1" if number == 0 else "h2"
        yield f"<{level}>{title}</{level}>"
    yield from (f"<p>{_escaped(line)}</p>" for line in section.lines)
    if section.bullets:
        items = "".join(f"<li>{_escaped(item)}</li>" for item in section.bullets)
        yield f"<ul>{items}</ul>"
    for table in section.tables:
        head = "".join(f'<th scope="col">{_escaped(name)}</th>' for name in table.head)
        yield f'<div class="wide"><table><caption>{_escaped(table.title)}</caption>'
        yield f"<thead><tr>{head}</tr></thead><tbody>"
        for row in table.rows:
            cells = "".join(f"<td>{_escaped(cell)}</td>" for cell in row)
            yield f"<tr>{cells}</tr>"
        yield "</tbody></table></div>"
    if section.detail:
        yield "</details>"


def _escaped(text: str) -> str:
    return html.escape(_shown(text), quote=True)


def _shown(text: str) -> str:
    """Text that UTF-8 can hold: names of files need not be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
