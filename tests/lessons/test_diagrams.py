"""The drawings are whole: translated, small, readable by eye and by ear, still when printed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from course_kit.translate.messages import template_text
from local_pipelines import diagram
from local_pipelines.errors import ParameterError
from local_pipelines.lessons import diagrams

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "src/local_pipelines/lessons/diagrams"
NAMES = sorted(path.stem for path in FOLDER.glob("*.svg"))
STYLE = (FOLDER / "style.css").read_text("utf-8")
SVG = "{http://www.w3.org/2000/svg}"
each_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speak English, whatever this machine speaks."""
    monkeypatch.setenv("LOCAL_PIPELINES_LANGUAGE", "en")


@pytest.fixture(scope="module")
def template() -> str:
    """The messages of the package, collected anew."""
    return template_text(ROOT)


def test_the_course_s_drawings_are_there() -> None:
    """Each drawing that a lesson shows has its file."""
    wanted = "chain export generate-loop kv-cache kv-cache-film padding placement"
    assert set(NAMES) == {*wanted.split(), "prefill-decode", "token-ladder"}


@each_name
def test_a_drawing_is_small_and_speaks(name: str) -> None:
    """A drawing has at most 12 kB, is a picture for a screen reader, and is words elsewhere."""
    bundle = diagram(name)._repr_mimebundle_()
    drawing = ET.fromstring(bundle["image/svg+xml"])  # noqa: S314 - our own
    title, description = drawing[0].text or "", drawing[1].text or ""
    assert len(bundle["image/svg+xml"].encode()) <= 12_000
    assert drawing.get("role") == "img"
    assert drawing.get("aria-labelledby") == f"{drawing[0].get('id')} {drawing[1].get('id')}"
    assert bundle["text/plain"] == repr(diagram(name)) == f"{title}\n{description}"
    assert title
    assert len(description) > 40
    assert "http" not in bundle["image/svg+xml"].replace("http://www.w3.org/2000/svg", "")


@each_name
def test_every_word_can_be_translated(name: str, template: str) -> None:
    """Each text of a drawing that is no code is in the template of the package's messages."""
    for element in ET.parse(FOLDER / f"{name}.svg").iter():  # noqa: S314 - our own
        kind = element.tag.removeprefix(SVG)
        if kind in {"title", "desc"} or (kind == "text" and "code" not in element.get("class", "")):
            assert f'msgid "{element.text}"' in template


@each_name
@pytest.mark.parametrize("stretched", [1, 2])
def test_words_stay_in_their_room(
    name: str, stretched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """English fits at full size; a language of twice its length is written smaller, not over."""
    monkeypatch.setattr(diagrams, "tr", lambda text: text * stretched)
    written = ET.fromstring(diagram(name).svg).iter(f"{SVG}text")  # noqa: S314 - our own
    source = ET.parse(FOLDER / f"{name}.svg").iter(f"{SVG}text")  # noqa: S314 - our own
    for before, after in zip(source, written, strict=True):
        style = after.get("style", "")
        assert stretched > 1 or not style
        if room := before.get("data-room"):
            usual = 13 if "small" in before.get("class", "") else 15
            size = float(style.removeprefix("font-size: ").removesuffix("px") or usual)
            assert 6 < size <= usual
            assert len(after.text or "") * size * diagrams._LETTER <= float(room) + 5
        else:
            assert "code" in before.get("class", "")


def test_a_drawing_speaks_the_learners_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the picture and those in its place are translated, code is not."""
    monkeypatch.setattr(diagrams, "tr", str.upper)
    drawn = diagram("token-ladder")
    assert "A VARIABLE OF THE ENVIRONMENT" in drawn.svg
    assert ">HF_HOME/token<" in drawn.svg
    assert repr(drawn).isupper()


def _colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"\.lp-diagram (\S+) \{ fill: (#\w{6})", css))


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
        return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out(scheme: str) -> None:
    """Every text has a contrast of at least 4.5 with every ground, by WCAG 2, light and dark."""
    before, _, after = STYLE.partition("@media (prefers-color-scheme: dark)")
    colours = _colours(before if scheme == "light" else after)
    grounds = [colours[f".{name}"] for name in ("card", "plain", "blue", "orange", "green")]
    for text, ground in product((colours["text"], colours[".small"]), grounds):
        assert _contrast(text, ground) >= 4.5


def test_the_film_is_a_still_picture_where_nothing_may_move() -> None:
    """Printed, or where a reader wants no motion, all of the film is there at once."""
    moving = re.search(r"@media screen and \(prefers-reduced-motion: no-preference\) \{.*?\n\}",
                       STYLE, re.DOTALL)  # fmt: skip
    assert moving
    assert "animation:" not in STYLE.replace(moving[0], "")
    assert "opacity" not in STYLE.replace(moving[0], "").partition("@keyframes")[0]
    assert 'class="comes four"' in diagram("kv-cache-film").svg


def test_a_wrong_name_gets_the_right_ones() -> None:
    """An unknown drawing is answered by the nearest name and the list of all."""
    with pytest.raises(ParameterError) as caught:
        diagram("kvcache")
    assert caught.value.fact == "There is no drawing 'kvcache'."
    assert '"kv-cache"' in caught.value.cause
    assert all(name in caught.value.next_step for name in NAMES)


def test_drawing_imports_no_framework(run_python: Callable[..., str]) -> None:
    """A drawing needs neither IPython nor matplotlib nor torch."""
    code = (
        "import sys\nfrom local_pipelines import diagram\ndiagram('chain')\n"
        "print({'IPython', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    assert run_python(code).strip() == "set()"
