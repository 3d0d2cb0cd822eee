"""Pages: links lead somewhere, README stays short, and the options are the program's.

`python tests/test_documentation.py` writes the tables of jaxface/cli/README.md anew.
"""

import argparse
import ast
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import jaxface
from jaxface.cli import build_parser
from jaxface.output import FIELDS

_ROOT = Path(__file__).resolve().parents[1]
_OPTIONS = _ROOT / "jaxface" / "cli" / "README.md"
_START, _END = "<!-- options -->\n", "<!-- end -->\n"
_LONGEST_README = 200  # lines
# ![alt](target) or [text](target "title"); code is taken out before.
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_OUTSIDE = ("http://", "https://", "mailto:")


def _pages() -> list[Path]:
    skip = {".git", ".venv", "build", "dist", "out", ".pytest_cache"}
    found = sorted(_ROOT.rglob("*.md"))
    return [path for path in found if not skip & set(path.relative_to(_ROOT).parts)]


def _links(path: Path) -> Iterator[str]:
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    yield from _LINK.findall(re.sub(r"`[^`\n]*`", "code", text))


def _anchor(heading: str) -> str:
    """What GitHub makes of a heading: lower case, words joined by -, other signs left out."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    kept = (
        sign
        for sign in unicodedata.normalize("NFC", text)
        if sign.isalnum() or sign in " -_" or unicodedata.combining(sign)
    )
    return "".join(kept).replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*#*\s*$", text, re.MULTILINE):
        anchor, again = _anchor(heading), 0
        while (name := f"{anchor}-{again}" if again else anchor) in found:
            again += 1
        found.add(name)
    return found


def _texts() -> str:
    """All texts of the package's code, one to a line; a formatted one without its values."""
    lines = []
    for path in sorted((_ROOT / "jaxface").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(node.value.replace("\n", " "))
    return "\n".join(lines)


def test_messages_of_the_troubleshooting_page_are_said():
    page = (_ROOT / "jaxface" / "cli" / "TROUBLESHOOTING.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(messages) > 15
    texts = _texts()
    pieces = [piece for message in messages for piece in message.split("…") if len(piece) > 3]
    assert [piece for piece in pieces if piece.strip() not in texts] == []


def test_names_of_ours_exist():
    """Those of the page for people who come from other tools."""
    page = (_ROOT / "jaxface" / "run" / "COMING_FROM.md").read_text(encoding="utf-8")
    fields = set(re.findall(r"`clip\.([a-z_0-9]+)", page))
    assert fields > {"landmarks", "head_pose"} and not fields - {*dir(jaxface.Analysis), *FIELDS}
    assert not set(re.findall(r"`jaxface\.([A-Za-z_]+)[`(]", page)) - {*dir(jaxface)}


def test_links_resolve():
    """Files, folders and headings that pages of the repository name."""
    broken = []
    for page in _pages():
        for link in _links(page):
            if link.startswith(_OUTSIDE):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            inside = target.is_relative_to(_ROOT) and target.exists()
            if not inside or (anchor and anchor not in _anchors(target)):
                broken.append(f"{page.relative_to(_ROOT)}: {link}")
    assert not broken


def test_links_are_found(tmp_path):
    """The finder itself: code holds no links, titles and pictures are understood."""
    page = tmp_path / "page.md"
    page.write_text(
        '# A "B" & `c_d`\n[a](x.md) ![b](y.png "t") [`c`](z#e)\n`[no](n)`\n'
        "```\n[no](n)\n# no\n```\n## A\n## A\n"
    )
    assert list(_links(page)) == ["x.md", "y.png", "z#e"]
    assert _anchors(page) == {"a-b--c_d", "a", "a-1"}


def test_pages_name_files_that_exist():
    """Paths in code signs, such as `bench/parity.py`, in all pages but the log of changes."""
    pattern = re.compile(r"`((?:jaxface|tests|bench|notebooks|params)/[\w./-]*\.(?:py|md|ipynb))\b")
    missing = [
        f"{page.relative_to(_ROOT)}: {name}"
        for page in _pages()
        if page.name != "CHANGELOG.md"
        for name in pattern.findall(page.read_text(encoding="utf-8"))
        if not (_ROOT / name).exists()
    ]
    assert not missing


def test_readme_is_short():
    assert len((_ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= _LONGEST_README


def test_commands_to_paste_are_one_line():
    """README promises it of its blocks for a fresh machine."""
    text = (_ROOT / "README.md").read_text(encoding="utf-8")
    for mark in ("main job", "tests"):
        block = re.search(rf"<!-- ci: {mark} -->\n```bash\n(.*?)```", text, re.DOTALL)
        assert block is not None and block[1].count("\n") == 1, mark
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_examples_of_extending_run():
    """As one script, from top to bottom; what they state is asserted in them."""
    text = (_ROOT / "jaxface" / "fit" / "EXTENDING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^## ", text, re.MULTILINE)
    assert len(blocks) == len(headings) + 1  # each section has one, and the top
    exec(compile("\n".join(blocks), "EXTENDING.md", "exec"), {"__name__": "examples"})


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers that take options, in the order of the help."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in nested:
        for child in dict.fromkeys(action.choices.values()):
            yield from _commands(child)
    if not nested:
        yield parser


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    what = (action.help or "") % {"default": action.default, "prog": "jaxface"}
    if action.choices is not None:
        values = " or ".join(f"`{value}`" for value in action.choices)
        what = f"{values}; {what}" if what else values
    elif action.option_strings and action.nargs != 0:
        metavar = action.metavar or action.dest.upper()
        names += f" [{metavar}]" if action.nargs == "?" else f" {metavar}"
    cells = (names or f"`{action.metavar or action.dest}`", what)
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Text in which Markdown sees no sign of its own but the code signs."""
    return re.sub(r"([|<*])", r"\\\1", text)


def options_page() -> str:
    """One table per command, as Markdown; neighbours that take the same options share one."""
    tables: list[tuple[list[str], list[str]]] = []
    for parser in _commands(build_parser()):
        rows = [_row(action) for action in parser._actions if action.dest != "help"]
        head = f"## {parser.prog}\n"
        head += f"\n{_plain(parser.description)}\n" if parser.description else ""
        if not tables or tables[-1][1] != rows:
            tables.append(([], rows))
        tables[-1][0].append(head)
    return (
        "\n"
        + "\n".join(
            "\n".join([*heads, "| option | meaning |", "|---|---|", *rows, ""])
            for heads, rows in tables
        )
        + "\n"
    )


def test_options_are_those_of_the_program():
    page = _OPTIONS.read_text(encoding="utf-8")
    written = page[page.index(_START) + len(_START) : page.index(_END)]
    assert written == options_page(), "run: python tests/test_documentation.py"


if __name__ == "__main__":
    _page = _OPTIONS.read_text(encoding="utf-8")
    _head, _tail = _page[: _page.index(_START) + len(_START)], _page[_page.index(_END) :]
    _OPTIONS.write_text(_head + options_page() + _tail, encoding="utf-8")
