"""Drawings of how things work, in the learner's language: one SVG file each.

The words of a file are messages; `data-room` says how wide they may be. Code is not translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from xml.etree import ElementTree as ET

from local_pipelines.errors import ParameterError
from local_pipelines.wording.columns import columns
from local_pipelines.wording.grammar import listed, nearest
from local_pipelines.wording.messages import tr

_SVG = "http://www.w3.org/2000/svg"
_LETTER = 0.57  # of the font's size: the width of a letter, in a wide font


class Diagram:
    """A drawing that a notebook shows, and says in words where it cannot."""

    def __init__(self, svg: str, words: str) -> None:
        self.svg, self.words = svg, words

    def __repr__(self) -> str:
        return self.words

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": self.words}


def diagram(name: str) -> Diagram:
    """Draw one of the course's pictures.

    Args:
        name: Its name, such as "kv-cache".

    Returns:
        The drawing; as the last line of a cell it is shown, and `.svg` is its text.

    Raises:
        ParameterError: There is no such drawing.
    """
    folder = files("local_pipelines.lessons") / "diagrams"
    names = sorted(p.name[:-4] for p in folder.iterdir() if p.name.endswith(".svg"))
    if name not in names:
        near = nearest(name, names)
        raise ParameterError(
            tr("There is no drawing {name!r}.").format(name=name),
            tr('Did you mean "{near}"?').format(near=near) if near else "",
            tr("There are: {names}.").format(names=listed(names)),
        )
    ET.register_namespace("", _SVG)
    drawing = ET.fromstring((folder / f"{name}.svg").read_text("utf-8"))  # noqa: S314 - our own
    for element in wordings(drawing):
        element.text = tr(str(element.text))
        _fit(element)
    style = ET.Element(f"{{{_SVG}}}style")
    style.text = (folder / "style.css").read_text("utf-8")
    drawing.insert(2, style)
    title, description = (drawing[0].text or "", drawing[1].text or "")
    return Diagram(ET.tostring(drawing, encoding="unicode"), f"{title}\n{description}")


def wordings(drawing: ET.Element) -> Iterator[ET.Element]:
    """The elements of a drawing that hold words of a language: title, description and texts."""
    for element in drawing.iter():
        kind = element.tag.rpartition("}")[2]
        if kind in {"title", "desc"} or (kind == "text" and "code" not in _classes(element)):
            yield element


def _classes(element: ET.Element) -> list[str]:
    return element.get("class", "").split()


def _fit(element: ET.Element) -> None:
    """Write a text that is wider than its room in smaller letters."""
    letters = _LETTER * columns(element.text or "")
    room = float(element.attrib.pop("data-room", "inf"))
    if letters * (13 if "small" in _classes(element) else 15) > room:
        element.set("style", f"font-size: {room / letters:.1f}px")
