"""The house stands as docs/architecture.md draws it and the contract in pyproject.toml says."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "local_pipelines"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
LAYERS = [
    layer.split(" | ") for each in CONTRACTS if each["type"] == "layers" for layer in each["layers"]
]
WINGS = {wing for layer in LAYERS for wing in layer}
# The aim for the first nine wings is 13,000 and 2,131 for forms and tools: whoever takes lines away
# lowers these, nobody raises them. A new wing brings its own line.
MOST_LINES = {"the first nine": 17_015, "exercises": 1_275, "scale_out": 1_056}


@cache
def rooms() -> dict[str, ast.Module]:
    """Each room of the library, by its name: "models.names"; a wing's own file is the wing."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(room: str) -> Iterator[tuple[str, str, str]]:
    """What a room imports of the library, in functions too: room, name or "", name here."""
    for node in ast.walk(rooms()[room]):
        if isinstance(node, ast.ImportFrom):
            base = (node.module or "").partition("local_pipelines")
            if base[0] or not base[1]:
                continue
            for alias in node.names:
                inner = f"{base[2]}.{alias.name}".strip(".")
                here = alias.asname or alias.name
                if inner in rooms():
                    yield inner, "", here
                else:
                    yield base[2].strip("."), alias.name, here


def may_use(upper: str, lower: str) -> bool:
    """Whether the contracts let a wing use another one."""
    levels = {wing: level for level, layer in enumerate(LAYERS) for wing in layer}
    return levels[upper] < levels[lower] and not any(
        f"local_pipelines.{upper}" in each["source_modules"]
        and f"local_pipelines.{lower}" in each["forbidden_modules"]
        for each in CONTRACTS
        if each["type"] == "forbidden"
    )


def test_the_wings_are_the_folders() -> None:
    """The contract names each folder with code, and `errors.py`, the only room without a wing."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    alone = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert alone == {"errors"}
    assert folders | alone == WINGS


def test_each_wing_answers_its_question() -> None:
    """A wing's docstring is one sentence, and the page has a row for each wing."""
    for wing in WINGS:
        said = ast.get_docstring(rooms()[wing]) or ""
        assert said.split("\n\n")[0].count(". ") == 0, wing
        assert said, wing
        assert re.search(rf"^\| `{wing}(/|\.py)` \|", PAGE, re.M), wing


def test_no_file_is_private() -> None:
    """No file's name begins with an underscore: public is what the package's `__all__` names."""
    names = [path.name for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    assert [name for name in names if name.startswith("_")] == []


def test_no_room_takes_a_private_name_of_another() -> None:
    """A name with an underscore in front is used in its own room only."""
    taken = []
    for room in rooms():
        modules = {}
        for other, name, here in imports(room):
            if name.startswith("_"):
                taken.append(f"{room}: {other}.{name}")
            if not name:
                modules[here] = other
        for node in ast.walk(rooms()[room]):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                if private and node.value.id in modules:
                    taken.append(f"{room}: {modules[node.value.id]}.{node.attr}")
    assert taken == []


def test_no_rooms_import_each_other() -> None:
    """There is no circle of imports, those in functions and for types included."""
    graph = {room: {other for other, _, _ in imports(room)} - {room} for room in rooms()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"A circle: {error.args[1]}") from None


def test_a_wing_uses_only_what_stands_below() -> None:
    """No room imports from a wing that the contracts keep from it."""
    upwards = []
    for room in filter(None, rooms()):
        wing = room.partition(".")[0]
        for other, _, _ in imports(room):
            target = other.partition(".")[0]
            if target != wing and not (target in WINGS and may_use(wing, target)):
                upwards.append(f"{room} -> {other or 'local_pipelines'}")
    assert upwards == []


def test_the_drawing_is_the_contract() -> None:
    """The arrows on the page are what the contracts allow, less what follows along other arrows."""
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", PAGE, re.M))
    allowed = {pair for pair in product(WINGS, WINGS) if may_use(*pair)}
    implied = {
        (upper, lower)
        for upper, lower in allowed
        if any((upper, between) in allowed and (between, lower) in allowed for between in WINGS)
    }
    assert drawn == allowed - implied


def test_the_page_names_rooms_that_there_are() -> None:
    """Each `wing/room` on the page is a file of the library."""
    named = set(re.findall(rf"`((?:{'|'.join(WINGS)})/\w+)`", PAGE))
    assert named
    assert [each for each in sorted(named) if not (PACKAGE / f"{each}.py").is_file()] == []


def test_the_library_grows_no_further() -> None:
    """No wing has more lines than it has had, on its way to what one can read."""
    count = dict.fromkeys(MOST_LINES, 0)
    for path in PACKAGE.rglob("*.py"):
        wing = path.relative_to(PACKAGE).parts[0]
        lines = len(path.read_text(encoding="utf-8").splitlines())
        count[wing if wing in count else "the first nine"] += lines
    assert {wing: lines for wing, lines in count.items() if lines > MOST_LINES[wing]} == {}
