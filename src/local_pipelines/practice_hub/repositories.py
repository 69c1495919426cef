"""What lies on the practice Hub: repositories, their files and what is told about them."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, deserialize

from local_pipelines.practice_hub import checkpoints

ALIASES = {"gpt2": "openai-community/gpt2"}  # old ids that the Hub redirects
PUBLIC_FILES = {"README.md", "LICENSE"}  # readable on gated repositories too
_LARGE = {".safetensors", ".bin", ".msgpack", ".h5"}  # kept in Git LFS
_POINTER_SIZE = 135  # bytes of the text that Git LFS keeps in a large file's place
_MODEL_FILES = {".json", ".jinja", ".model", ".safetensors", ".txt"}


@dataclass(frozen=True)
class File:
    """One file of a repository."""

    path: str
    data: bytes = field(repr=False)

    @property
    def is_large(self) -> bool:
        """Whether it is kept on the file host (Git LFS)."""
        return PurePosixPath(self.path).suffix in _LARGE

    @cached_property
    def sha256(self) -> str:
        """The sum of what is in it."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def etag(self) -> str:
        """The sum the Hub tells for it: SHA-256 of a large file, git's blob id of a small one."""
        if self.is_large:
            return self.sha256
        blob = b"blob %d\0" % len(self.data) + self.data
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Repository:
    """A model's repository."""

    id: str  # owner/name
    contents: Mapping[str, bytes] = field(repr=False)  # the bytes of each file, by its path
    gated: bool = False  # its licence has to be accepted before the files can be read
    private: bool = False  # only the account "accepted" sees that it is there
    licence: str = "apache-2.0"  # its short name

    @cached_property
    def files(self) -> dict[str, File]:
        """All files by their paths."""
        return {path: File(path, data) for path, data in sorted(self.contents.items())}

    @cached_property
    def commit(self) -> str:
        """The one revision there is: 40 hexadecimal digits that change with any file."""
        told = f"{self.id}\n" + "\n".join(f"{f.path} {f.etag}" for f in self.files.values())
        return hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()

    def info(self, *, blobs: bool) -> dict[str, object]:
        """What `/api/models/{id}` tells; with the files' sizes and sums if asked for `blobs`."""
        told: dict[str, object] = {
            "id": self.id,
            "author": self.id.split("/")[0],
            "sha": self.commit,
            "gated": "manual" if self.gated else False,
            "private": self.private,
            "tags": ["transformers", "text-generation", f"license:{self.licence}"],
            "pipeline_tag": "text-generation",
            "library_name": "transformers",
            "siblings": [_sibling(file, blobs=blobs) for file in self.files.values()],
        }
        if parameters := self._parameters:
            told["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
        return told

    def tree(self, folder: str) -> list[dict[str, object]]:
        """What `/api/models/{id}/tree` tells of a folder; nothing if there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in self.files if path.startswith(prefix)]
        names = {path.removeprefix(prefix) for path in inside}
        folders = sorted({name.split("/")[0] for name in names if "/" in name})
        entry = {"type": "directory", "oid": "0" * 40, "size": 0}
        return [entry | {"path": prefix + folder} for folder in folders] + [
            _entry(self.files[prefix + name]) for name in sorted(names) if "/" not in name
        ]

    @cached_property
    def _parameters(self) -> dict[str, int]:
        """How many numbers of each type there are in the weights."""
        counts: dict[str, int] = {}
        for path, file in self.files.items():
            tensors = _tensors(file.data) if path.endswith(".safetensors") else []
            for _, tensor in tensors:
                count = math.prod(tensor["shape"])
                counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + count
        return counts


def _tensors(packed: bytes) -> list[tuple[str, dict[str, Any]]]:
    try:
        found: list[tuple[str, dict[str, Any]]] = deserialize(packed)  # type: ignore[no-untyped-call]
    except SafetensorError:  # a test's own repository may hold anything
        return []
    return found


def _sibling(file: File, *, blobs: bool) -> dict[str, object]:
    told: dict[str, object] = {"rfilename": file.path}
    if blobs:
        told |= {"size": len(file.data), "blobId": file.etag[:40]}
        if file.is_large:
            told["lfs"] = {"sha256": file.sha256, **_pointer(file)}
    return told


def _entry(file: File) -> dict[str, object]:
    told: dict[str, object] = {"type": "file", "oid": file.etag[:40], "size": len(file.data)}
    if file.is_large:
        told["lfs"] = {"oid": file.sha256, **_pointer(file)}
    return told | {"path": file.path}


def _pointer(file: File) -> dict[str, int]:
    return {"size": len(file.data), "pointerSize": _POINTER_SIZE}


# --- the repositories that are always there -----------------------------------------------------


@lru_cache(maxsize=1)
def build_repositories(model: Path | None) -> tuple[Repository, ...]:
    """Build all repositories of the practice Hub; for the same folder they are built once.

    Args:
        model: The folder of a model that can answer; without one the gated and the chat model
            are random as well.
    """
    answering = _read_folder(model) if model else checkpoints.llama()
    base = checkpoints.llama(chat=False)
    sharded = checkpoints.shard(checkpoints.llama(seed=3))
    return (
        _repository("openai-community/gpt2", base, licence="mit"),
        _repository("microsoft/Phi-3-mini-4k-instruct", sharded, licence="mit"),
        _repository("bigscience/bloom-1b7", base, licence="bigscience-bloom-rail-1.0"),
        _repository("HuggingFaceTB/SmolLM2-135M-Instruct", checkpoints.llama()),
        _repository("meta-llama/Llama-3.2-1B-Instruct", answering, gated=True, licence="llama3.2"),
        _repository("practice/chat", answering),
        _repository("practice/private", base, private=True),
        _repository("practice/sharded", checkpoints.shard(base, parts=3)),
        _repository("practice/bin-only", _pickled(base)),
    )


def _repository(model_id: str, contents: Mapping[str, bytes], **facts: Any) -> Repository:
    licence = facts.get("licence", Repository.licence)
    card = (
        f"---\nlicense: {licence}\npipeline_tag: text-generation\n---\n\n# {model_id}\n\n"
        "A stand-in on the practice Hub. It has the name of the real model, not its architecture"
        " and not its weights.\n"
    )
    texts = {"README.md": card.encode(), "LICENSE": b"A practice licence: learn and try.\n"}
    return Repository(model_id, {**contents, **texts}, **facts)


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir())
        if file.is_file() and file.suffix in _MODEL_FILES
    }


def _pickled(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The old form of a checkpoint. Nobody should open a pickle, so nothing of use is in it."""
    kept = {name: data for name, data in files.items() if not name.endswith(".safetensors")}
    return {**kept, "pytorch_model.bin": pickle.dumps({})}
