"""What lies in the folder of an OpenVINO model, and which model and format it was made from.

IR, "intermediate representation", is OpenVINO's file format: `openvino_model.xml` describes the
computation, `openvino_model.bin` holds the weights. Beside them lies a small file of ours that
says what the export was made from; folders that `optimum-cli` wrote have none and are read, too.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from local_pipelines.errors import ExportError, failure
from local_pipelines.models.file_sums import changed_file, json_object
from local_pipelines.openvino.manifest import MANIFEST, TOOLS, Manifest, read_manifest
from local_pipelines.wording.columns import align, html_table
from local_pipelines.wording.grammar import gigabytes
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.versions import installed_version

_MODEL = ("openvino_model.xml", "openvino_model.bin")
_TOKENIZER = tuple(
    f"openvino_{name}.{end}" for name in ("tokenizer", "detokenizer") for end in ("xml", "bin")
)
# OpenVINO still reads version 10, of 2020; every release since 2022 writes 11.
_READABLE_IR = {"10", "11"}
_NUMBER = re.compile(r"-?\d{1,9}", re.ASCII)


@dataclass(frozen=True, kw_only=True, repr=False)
class Export:
    """An OpenVINO model on disk.

    Args:
        folder: Where it lies.
        weight_format: "fp32", "fp16", "bf16", "int8" or "int4".
        group_size: int4 only: how many weights share a scale, -1 for a whole row; None if unknown.
        size: Bytes of all its files.
        weights: Bytes of `openvino_model.bin`.
        model: What it was made from: "pocket", an id of the Hub, a folder's name; empty if unknown.
        revision: The commit on the Hub; empty if unknown.
        versions: The tools that made it, such as `{"openvino": "2026.4.1"}`.
        has_tokenizer: The converted tokenizer is there, which OpenVINO GenAI needs.
        has_chat_template: The tokenizer formats conversations.
    """

    folder: Path
    weight_format: str
    group_size: int | None = None
    size: int
    weights: int
    model: str = ""
    revision: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    has_tokenizer: bool = True
    has_chat_template: bool = False

    def _rows(self) -> list[tuple[str, str]]:
        precision = self.weight_format
        if self.weight_format == "int4" and self.group_size is not None:
            many = tr("groups of {size}").format(size=self.group_size)
            precision += ", " + (tr("one group a row") if self.group_size == -1 else many)
        made_with = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        model = self.model
        if self.revision:
            model = tr("{model} at {revision}").format(model=model, revision=self.revision[:7])
        rows = [
            (tr("model"), model),
            (tr("weights"), f"{precision}, {gigabytes(self.weights)}"),
            (tr("on disk"), gigabytes(self.size)),
            (tr("tokenizer"), self._tokenizer_line()),
            (tr("made with"), made_with or tr("unknown versions")),
        ]
        return [(name, text) for name, text in rows if text]

    def _tokenizer_line(self) -> str:
        if self.has_tokenizer:
            with_template = tr("converted, with chat template")
            without = tr("converted, without chat template")
        else:
            with_template = tr("not converted: not for OpenVINO GenAI, with chat template")
            without = tr("not converted: not for OpenVINO GenAI, without chat template")
        return with_template if self.has_chat_template else without

    def __repr__(self) -> str:
        head = tr("OpenVINO model in {folder}").format(folder=self.folder.name)
        return f"{head}\n{align(self._rows(), indent=2)}"

    def _repr_html_(self) -> str:
        code = f"<code>{escape(self.folder.name)}</code>"
        head = escape(tr("OpenVINO model in {folder}")).format(folder=code)
        return f"<p>{head}</p>{html_table(self._rows(), row_heads=True)}"


def read_export(folder: str | os.PathLike[str]) -> Export:
    """Look at an exported model without loading it.

    Args:
        folder: What `export_openvino` returned, or a folder that `optimum-cli` wrote.

    Returns:
        Its format, size and the versions that made it.

    Raises:
        ExportError: It is no export, a file is missing or cut off, or the installed OpenVINO
            cannot read it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        place = tr("It was looked for in {cwd}.")
        hint = "" if folder.is_absolute() else place.format(cwd=Path.cwd())
        raise failure("no-export-folder", hint, folder=folder)
    try:
        return _read(folder)
    except ExportError:
        raise
    except OSError as error:
        raise failure("export-unreadable", f"{error.strerror or error}.", folder=folder) from error


def _read(folder: Path) -> Export:
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    if manifest is None:
        found = _from_xml(folder)
    else:
        told = ("weight_format", "group_size", "model", "revision", "versions")
        found = {name: getattr(manifest, name) for name in told}
    _check_readable(folder, found["versions"].get("openvino", ""))
    return Export(
        folder=folder,
        size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        weights=(folder / _MODEL[1]).stat().st_size,
        has_tokenizer=all((folder / name).is_file() for name in _TOKENIZER),
        has_chat_template=_has_chat_template(folder),
        **found,
    )


def _check_files(folder: Path, manifest: Manifest | None) -> None:
    files = {} if manifest is None else manifest.files
    for name in (*_MODEL, "config.json", *files):
        if not (folder / name).is_file():
            is_part = (folder / _MODEL[0]).is_file() or manifest is not None
            reason = "export-partly-here" if is_part else "no-export"
            raise failure(reason, folder=folder, name=name)
    if manifest is not None and (changed := changed_file(folder, files)) is not None:
        if (folder / changed).stat().st_size != files[changed].size:
            raise failure("export-cut-off", file=folder / changed)
        raise failure("export-changed", file=folder / changed, manifest=MANIFEST)


def _from_xml(folder: Path) -> dict[str, Any]:
    """Tell the format from the constants, and the rest from the notes at the file's end."""
    text = (folder / _MODEL[0]).read_text(encoding="utf-8", errors="replace")
    sizes: Counter[str] = Counter()
    end = 0
    constant = r'<data element_type="(\w+)" shape="[^"]*" offset="(\d{1,18})" size="(\d{1,18})"'
    for kind, offset, size in re.findall(constant, text):
        sizes[kind] += int(size)
        end = max(end, int(offset) + int(size))
    if end > (folder / _MODEL[1]).stat().st_size:
        raise failure("export-cut-off", file=folder / _MODEL[1])
    notes = text[text.rfind("<rt_info>") :]
    group = _note(notes, "group_size")
    weight_format = _format(sizes)
    is_known = weight_format == "int4" and _NUMBER.fullmatch(group)
    noted = {name: name.replace("-", "_") for name in TOOLS}
    noted |= {"openvino": "Runtime", "torch": "pytorch"}
    versions = {name: _note(notes, f"{note}_version").split("-")[0] for name, note in noted.items()}
    return {
        "weight_format": weight_format,
        "group_size": int(group) if is_known else None,
        "versions": {name: version for name, version in versions.items() if version},
    }


def _format(sizes: Counter[str]) -> str:
    if sizes["u4"] or sizes["i4"]:
        return "int4"
    if sizes["u8"] + sizes["i8"] > sizes.total() / 2:
        return "int8"
    widest = max(("f32", "f16", "bf16"), key=sizes.__getitem__)
    return {"f32": "fp32", "f16": "fp16"}.get(widest, widest)


def _note(notes: str, name: str) -> str:
    match = re.search(rf'<{name} value="([^"]*)"', notes)
    return match[1] if match else ""


def _check_readable(folder: Path, made_with: str) -> None:
    with (folder / _MODEL[0]).open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(2000)
    if not (match := re.search(r'<net [^>]*\bversion="(\d+)"', head)):
        raise failure("no-ir", file=folder / _MODEL[0])
    if match[1] not in _READABLE_IR:
        reason = "ir-too-old" if int(match[1]) < 10 else "ir-too-new"
        raise failure(reason, folder=folder, version=match[1])
    here = installed_version("openvino") or ""
    if _is_newer(made_with, here):
        raise failure("export-too-new", folder=folder, made_with=made_with, here=here)


def _is_newer(made_with: str, here: str) -> bool:
    """Compare year and release; a patch, the third number, changes no format."""
    with suppress(InvalidVersion):
        return Version(made_with).release[:2] > Version(here).release[:2]
    return False  # one of them is unknown


def _has_chat_template(folder: Path) -> bool:
    in_config = json_object(folder / "tokenizer_config.json").get("chat_template")
    return bool(in_config) or (folder / "chat_template.jinja").is_file()
