"""Every "Specification 02, D.3" in the repository names a section, and a step, that exists."""

import functools
import re
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

_ROOT = Path(__file__).parents[1]
_TEXTS = {
    path.name.split("-")[1]: path
    for path in (_ROOT / "jaxface" / "reference").glob("specification-*.md")
}
_SECTION = r"(?:[A-I]|0)(?:\.\d+)*\b"
_STEPS = r"(?:steps?|quirks?) \d+(?:(?: and | to |, )\d+)*"
_ITEM = rf"{_SECTION}(?:, {_STEPS})?"
_LINK = r"(?:, and | and | to |, )"
_CITATION = re.compile(rf"[Ss]pecification (0[123]), ({_ITEM}(?:{_LINK}{_ITEM})*)")
# Whatever else may be meant as a citation: another word for it, or one without a section.
_MENTION = re.compile(r"\b[Ss]pec(?:ification|s|\.)?,? ?0\d|[A-I]\.\d+ of (?:the )?[Ss]pec")
_SHOWN = re.compile(r"\[specification 0[123]\]\(\S+\)|# Specification 0[123]: ")  # links, titles


def _files() -> list[Path]:
    folders = ("jaxface", "tests", "bench", "notebooks", "params")
    found = [path for folder in folders for path in (_ROOT / folder).rglob("*")]
    return [
        path
        for path in [*sorted(found), *sorted(_ROOT.glob("*.md"))]
        if path.suffix in (".py", ".md", ".ipynb") and path != Path(__file__)
    ]


def _flat(path: Path) -> str:
    """The text on one line: citations go over the ends of lines, in comments too."""
    return re.sub(r"\s*\n\s*(?:# ?)?", " ", path.read_text(encoding="utf-8"))


def _citations(text: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Specification, section and steps of every citation; both ends stand for a range."""
    return [
        (number, item[1], tuple(map(int, re.findall(r"\d+", item[2] or ""))))
        for number, items in _CITATION.findall(text)
        for item in re.finditer(rf"({_SECTION})(?:, ({_STEPS}))?", items)
    ]


@functools.cache
def _sections(number: str) -> dict[str, str]:
    """Text of each numbered section, its subsections included."""
    text = _TEXTS[number].read_text(encoding="utf-8")
    heads = list(re.finditer(rf"^(#+) ({_SECTION})\.? ", text, re.MULTILINE))
    found = {}
    for index, head in enumerate(heads):
        ends = (other.start() for other in heads[index + 1 :] if len(other[1]) <= len(head[1]))
        found[head[2]] = text[head.start() : next(ends, len(text))]
    return found


def test_citations_resolve():
    missing = []
    for path in _files():
        for number, section, steps in _citations(_flat(path)):
            named = f"{path.relative_to(_ROOT)}: specification {number}, {section}"
            text = _sections(number).get(section)
            missing += [named] if text is None else []
            missing += [
                f"{named}, step {step}"
                for step in steps
                if text and not re.search(rf"(?m)^\s*{step}\. |\*\*Step {step}\b", text)
            ]
    assert not missing


def test_citations_have_one_form():
    strange = []
    for path in _files():
        text = _SHOWN.sub("", _flat(path))
        strange += [
            f"{path.relative_to(_ROOT)}: {text[max(match.start() - 30, 0) : match.end() + 30]}"
            for match in _MENTION.finditer(text)
            if not _CITATION.match(text, match.start())
        ]
    assert not strange, "write 'Specification 02, D.3'"


def test_all_stages_cite_the_specifications():
    """Guards the pattern itself: it must find what is known to be there."""
    cited = {
        (number, section)
        for path in _files()
        if path.suffix == ".py"
        for number, section, _ in _citations(_flat(path))
    }
    known = {
        ("01", "B.5"),
        ("02", "D.3"),
        ("02", "B.7"),
        ("03", "C.5"),
        ("03", "A.2"),
        ("03", "E.4"),
    }
    assert known <= cited and len(cited) > 50  # 80 on 2026-11-28


def test_specifications_go_with_the_package(tmp_path):
    """In the wheel they lie beside the reference, as in the repository."""
    (wheel,) = WheelBuilder(str(_ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert sorted(_TEXTS) == ["01", "02", "03"]
    assert {f"jaxface/reference/{path.name}" for path in _TEXTS.values()} <= packed
    assert "jaxface/reference/README.md" in packed
