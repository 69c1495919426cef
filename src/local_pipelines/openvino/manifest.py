"""The small file in an export that says what it was made from, and what it consists of."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local_pipelines.models import checkpoint
from local_pipelines.models.file_sums import FileSum, changed_file, json_object, known_sums
from local_pipelines.workbench.machine import sha256_of
from local_pipelines.workbench.versions import installed_version

MANIFEST = "local_pipelines_export.json"
TOOLS = ("openvino", "openvino-tokenizers", "optimum-intel", "nncf", "transformers", "torch")
_SMALL_FILE = re.compile(r"[\w.-]+\.(json|jinja|model|txt)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an export was made from, and its files."""

    model: str  # "pocket", an id of the Hub, or a folder's name
    revision: str  # the commit on the Hub, which says it all; empty if there is none
    source_files: dict[str, FileSum]  # the model's; none if there is a commit
    weight_format: str
    group_size: int | None  # int4 only
    group_size_chosen: bool  # nobody asked for that group size
    versions: dict[str, str]  # of the tools that made it
    files: dict[str, FileSum]  # the export's own


def read_manifest(folder: Path) -> Manifest | None:
    """What an export says about itself; None if it says nothing that can be understood."""
    found = json_object(folder / MANIFEST)
    source, sums = _table(found.get("source")), _table(found.get("sums"))
    sizes, versions = _table(found.get("files")), _table(found.get("versions"))
    texts = (found.get("weight_format"), source.get("model"), *versions.values())
    understood = found.get("manifest") == 1 and isinstance(found.get("files"), dict)
    if not understood or not all(isinstance(text, str) for text in texts):
        return None
    group_size = found.get("group_size")
    try:
        return Manifest(
            model=source["model"],
            revision=str(source.get("revision", "")),
            source_files={
                name: _file_sum(name, file["size"], file.get("sha256", ""))
                for name, file in _table(source.get("files")).items()
            },
            weight_format=found["weight_format"],
            group_size=None if group_size is None else int(group_size),
            group_size_chosen=bool(found.get("group_size_chosen", True)),
            versions=versions,
            files={n: _file_sum(n, size, sums.get(n, "")) for n, size in sizes.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _file_sum(name: str, size: object, sha256: object) -> FileSum:
    """Take what is written there, unless it cannot be, or names a file outside the folder."""
    inside = not set(name.split("/")) & {"", ".", ".."} and not set(name) & set("\\:\0")
    if not inside or type(size) is not int or not isinstance(sha256, str):
        raise ValueError(name)
    return FileSum(size, sha256)


def write_manifest(
    folder: Path, source: Path, *, model: str, revision: str, **form: str | int | None
) -> None:
    """Write down what an export was made from; the last thing before it is given its name.

    `form` is what `Manifest` has of the weights' format.
    """
    made_from: dict[str, Any] = {"revision": revision}
    if not revision:
        sums = known_sums(source, _source_files(source))
        made_from = {"files": {name: asdict(file) for name, file in sums.items()}}
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    names = {file.relative_to(folder).as_posix(): file for file in files}
    manifest = {
        "manifest": 1,
        "source": {"model": model, **made_from},
        **form,
        "versions": tool_versions(),
        "files": {name: file.stat().st_size for name, file in names.items()},
        "sums": {name: sha256_of(file) for name, file in names.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def tool_versions() -> dict[str, str]:
    """The versions of what takes part in an export, as far as it is installed."""
    return {name: version for name in TOOLS if (version := installed_version(name)) is not None}


def is_same_source(found: Manifest, source: Path) -> bool:
    """Whether a folder holds the model's files that an export was made from."""
    if _source_files(source) != set(found.source_files):
        return False
    return changed_file(source, found.source_files) is None


def _source_files(folder: Path) -> set[str]:
    """The files that decide what a model answers: weights, configuration and tokenizer."""
    names = {file.name for file in folder.iterdir() if file.is_file()}
    small = {name for name in names if _SMALL_FILE.fullmatch(name)}
    return small | {file.name for file in checkpoint.weight_files(folder)}
