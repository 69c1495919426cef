"""Which model is meant: what a learner writes becomes one value, once, and that is handed on."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from local_pipelines.errors import ModelError, failure
from local_pipelines.models import checkpoint
from local_pipelines.models.access import no_such_revision
from local_pipelines.models.catalogue import (
    PackagedEntry,
    catalogue,
    is_pocket,
    packaged_entry,
    pocket_folder,
)
from local_pipelines.models.checkpoint import Shape, Tensor, Weights
from local_pipelines.models.converted import conversion_of
from local_pipelines.models.gguf import GgufFile, is_gguf, read_gguf
from local_pipelines.models.packaged import packaged_folder
from local_pipelines.wording.grammar import nearest
from local_pipelines.wording.messages import tr

# The few old ids without an owner that generate text; the Hub still redirects them.
_OLD_IDS = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "openai-gpt"}
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_NO_REVISION = re.compile(r"^[/.-]|\.\.|[\s\\:?*~^\[\x00-\x1f\x7f]")  # as in git


@dataclass(frozen=True)
class Model:
    """A model whose name is understood: a checked folder, or a well-formed id of the Hub.

    What is read from its files is read when first needed, and once.
    """

    name: str  # as it was asked for
    folder: Path | None = None  # where it lies; None for one of the Hub not fetched in this call
    hub_id: str | None = None  # its id, if it is one of the Hub's
    is_pocket: bool = False  # it is the embedded model, asked for by its name
    packaged: PackagedEntry | None = None  # what the catalogue says of one out of a package
    gguf: GgufFile | None = None  # the header of the file that its checkpoint is made from

    def __str__(self) -> str:
        return self.name

    @property
    def has_own_name(self) -> bool:
        """Whether its name says what it is, on any machine; that of a folder does not."""
        return bool(self.hub_id or self.is_pocket or self.packaged)

    @property
    def title(self) -> str:
        """The name for sentences and file names, without the path of a folder."""
        if self.gguf:
            return self.gguf.path.name
        if self.has_own_name or self.folder is None:
            return self.name
        return self.folder.name

    @property
    def place(self) -> Path | None:
        """The folder it lies in, that of the cache included; None if it is not here whole."""
        if self.gguf and self.folder is None:  # it may be converted at any time
            return conversion_of(self.gguf.path).folder()
        return self._place

    @cached_property
    def _place(self) -> Path | None:
        if self.folder is not None:
            return self.folder
        if self.packaged:
            return packaged_folder(self.packaged)
        return None if self.hub_id is None else cached_model(self.hub_id)

    @cached_property
    def files(self) -> list[Path]:
        """The weight files that are here; none of a model that is to be downloaded."""
        return [] if self.place is None else checkpoint.weight_files(self.place)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """What the headers of the weight files announce."""
        return checkpoint.read_tensors(self.files)

    @cached_property
    def weights(self) -> Weights:
        """How much there is to load."""
        return checkpoint.weigh(self.files, self.tensors)

    @property
    def shape(self) -> Shape:
        """The measures that decide the size of its KV cache, as far as it is here."""
        return Shape() if self.place is None else checkpoint.read_shape(self.place)

    @cached_property
    def formats(self) -> frozenset[str]:
        """In which formats its weights are here: "safetensors", "openvino", "gguf", "pickle"."""
        return frozenset() if self.place is None else checkpoint.formats_in(self.place)

    def fetched(self, folder: Path) -> Model:
        """The same model, now that it lies in a folder."""
        return self if folder == self.folder else replace(self, folder=folder)


ModelName: TypeAlias = str | os.PathLike[str] | Model
"""What a function that wants a model takes."""


def locate(model: ModelName) -> Model:
    """Understand a model's name: "pocket", "smollm2", a folder, a GGUF file, or an id of the Hub.

    Raises:
        ModelError: It cannot be a model's name, or the folder or file holds no whole model.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, os.PathLike):
        return _in_folder(os.fspath(model))
    if not isinstance(model, str) or not model.strip():
        raise failure("no-name", model=model)
    return _from_text(model.strip())


def _from_text(name: str) -> Model:
    if is_pocket(name):
        return _embedded(name)
    if entry := packaged_entry(name):
        return Model(name, packaged=entry)
    if "://" in name:
        parts = [part for part in urlsplit(name).path.split("/") if part][:2]
        fault = "address-of-id" if len(parts) == 2 else "address"
        raise failure(fault, model=name, model_id="/".join(parts))
    if _looks_like_path(name) or _exists(Path(name)) or name.lower().endswith(".gguf"):
        return _in_folder(name)
    if is_hub_id(name):
        return Model(name, hub_id=name)
    raise failure("neither", did_you_mean(name), model=name)


def _embedded(name: str) -> Model:
    model = Model(name, pocket_folder().resolve(), is_pocket=True)
    try:
        _ = model.weights
    except ModelError as error:
        raise failure("pocket-broken", error.fact) from error
    return model


def _in_folder(name: str) -> Model:
    try:
        folder = Path(name).expanduser()
        if file := _gguf_file(folder):
            # A link keeps its name: in the Hub's cache the file itself is called by its sum.
            return Model(name, gguf=read_gguf(file.parent.resolve() / file.name))
        _check_is_folder(folder)
        checkpoint.weight_files(folder)  # its error names the folder as it was written
        model = Model(name, folder.resolve())
        _ = model.weights
    except ModelError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # no right, no such ~user, an odd name
        raise failure("unreadable-folder", f"{error}.", folder=name) from error
    return model


def _gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder without a checkpoint."""
    if not path.is_dir():
        return path if is_gguf(path) else None
    found = sorted(file.name for file in path.iterdir() if file.suffix.lower() == ".gguf")
    if not found or checkpoint.formats_in(path) - {"gguf"} or (path / "config.json").exists():
        return None
    if len(found) > 1:
        raise failure("several-gguf-files", folder=path, names=", ".join(found[:5]))
    return path / found[0]


def _check_is_folder(folder: Path) -> None:
    if not folder.exists():
        fault = "no-folder" if folder.is_absolute() else "no-folder-here"
        raise failure(fault, folder=folder, cwd=Path.cwd())
    if not folder.is_dir():
        raise failure("file-not-folder", folder=folder, parent=str(folder.parent))


def _looks_like_path(model: str) -> bool:
    # Its beginning, such as ./, ~ or C:, a backslash, two slashes, or one at its end.
    return bool(re.match(r"[./~]|[A-Za-z]:", model) or re.search(r"\\|/.*/|/$", model, re.S))


def _exists(path: Path) -> bool:
    with suppress(OSError, ValueError):  # far too long a name, or characters no file may have
        return path.exists()
    return False


def is_hub_id(model: str) -> bool:
    """The rule of `huggingface_hub.utils.validate_repo_id`, without importing it."""
    return model in _OLD_IDS or (
        re.fullmatch(r"\w[\w.-]*/\w([\w.-]{0,94}\w)?", model, re.ASCII) is not None
        and "--" not in model
        and ".." not in model
        and not model.endswith(".git")
    )


def did_you_mean(model: str) -> str:
    """A sentence with the nearest id of the catalogue; empty if none is near."""
    near = _nearest_id(model)
    if not near or near == model:
        return ""
    return tr('Did you mean "{near}"?').format(near=near)


def _nearest_id(model: str) -> str | None:
    names: dict[str, str] = {}
    for entry in catalogue():
        names[entry.id.lower()] = entry.id
        names[entry.id.split("/")[-1].lower()] = entry.id
    wanted = model.lower().replace(" ", "-")
    for text in (wanted, wanted.split("/")[-1]):
        begun = [name for name in names if len(text) > 5 and name.startswith(text)]
        if near := min(begun, key=len, default=nearest(text, names)):
            return names[near]
    return None


# --- the cache ---------------------------------------------------------------------------------


def cached_model(hub_id: str, revision: str | None = None) -> Path | None:
    """Where the cache has a model that was downloaded whole."""
    if revision and (not isinstance(revision, str) or _NO_REVISION.search(revision)):
        raise no_such_revision(hub_id)  # it becomes a file's name in the cache
    folder = cached_folder(hub_id, revision)
    if folder is None or not any((folder / name).is_file() for name in _TOKENIZER):
        return None
    with suppress(ModelError):
        checkpoint.weight_files(folder)
        return folder
    return None


def cached_folder(hub_id: str, revision: str | None = None) -> Path | None:
    """Where the cache has the newest known version of a model, whole or in part."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None
