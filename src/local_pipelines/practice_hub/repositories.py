"""What lies on the practice Hub: repositories, their files and what is told about them."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from local_pipelines.practice_hub import checkpoints

__all__ = ["ALIASES", "PUBLIC_FILES", "File", "Repository", "build_repositories"]

ALIASES = {"gpt2": "openai-community/gpt2"}  # old ids that the Hub redirects
PUBLIC_FILES = {"README.md", "LICENSE"}  # readable on gated repositories too
_LARGE = {".safetensors", ".bin", ".msgpack", ".h5"}  # kept in Git LFS
_POINTER_SIZE = 135  # bytes of the text that Git LFS keeps in a large file's place
_MODEL_FILES = {".json", ".jinja", ".model", ".safetensors", ".txt"}


@dataclass(frozen=True)
class File:
    """One file of a repository.

    Args:
        path: Its name inside the repository.
        data: What is in it.
    """

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
    """A model's repository.

    Args:
        id: Its name as `owner/name`.
        contents: The bytes of each file, by its path.
        gated: Its licence has to be accepted before the files can be read.
        private: Only the account "accepted" sees that it is there.
        licence: The licence's short name.
    """

    id: str
    contents: Mapping[str, bytes] = field(repr=False)
    gated: bool = False
    private: bool = False
    licence: str = "apache-2.0"

    @cached_property
    def files(self) -> dict[str, File]:
        """All files by their paths."""
        return {path: File(path, data) for path, data in sorted(self.contents.items())}

    @cached_property
    def commit(self) -> str:
        """The one revision there is: 40 hexadecimal digits that change with any file."""
        told = f"{self.id}\n" + "\n".join(f"{f.path} {f.etag}" for f in self.files.values())
        return hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()

    def has_revision(self, revision: str) -> bool:
        """Whether there is such a branch or commit."""
        return revision in {"main", self.commit}

    def info(self, *, blobs: bool) -> dict[str, object]:
        """What `/api/models/{id}` tells; with the files' sizes and sums if asked for `blobs`."""
        library = ["transformers", *(["safetensors"] if self._parameters() else [])]
        told: dict[str, object] = {
            "_id": self.commit[:24],
            "id": self.id,
            "modelId": self.id,
            "author": self.id.split("/")[0],
            "sha": self.commit,
            "gated": "manual" if self.gated else False,
            "private": self.private,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "lastModified": "2025-01-01T00:00:00.000Z",
            "createdAt": "2025-01-01T00:00:00.000Z",
            "tags": [*library, "text-generation", f"license:{self.licence}"],
            "pipeline_tag": "text-generation",
            "library_name": "transformers",
            "siblings": [_sibling(file, blobs=blobs) for file in self.files.values()],
        }
        if parameters := self._parameters():
            told["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
        return told

    def tree(self, folder: str) -> list[dict[str, object]]:
        """What `/api/models/{id}/tree` tells of a folder; nothing if there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in self.files if path.startswith(prefix)]
        names = {path.removeprefix(prefix) for path in inside}
        folders = sorted({name.split("/")[0] for name in names if "/" in name})
        return [
            *(
                {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + f}
                for f in folders
            ),
            *(_entry(self.files[prefix + name]) for name in sorted(names) if "/" not in name),
        ]

    def _parameters(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for file in self.files.values():
            if file.path.endswith(".safetensors"):
                for kind, count in _count_numbers(file.data):
                    counts[kind] = counts.get(kind, 0) + count
        return counts


def _count_numbers(packed: bytes) -> list[tuple[str, int]]:
    (length,) = struct.unpack("<Q", packed[:8])
    header = json.loads(packed[8 : 8 + length])
    header.pop("__metadata__", None)
    return [(entry["dtype"], math.prod(entry["shape"])) for entry in header.values()]


def _sibling(file: File, *, blobs: bool) -> dict[str, object]:
    told: dict[str, object] = {"rfilename": file.path}
    if blobs:
        told |= {"size": len(file.data), "blobId": file.etag[:40]}
        if file.is_large:
            told["lfs"] = {
                "sha256": file.sha256,
                "size": len(file.data),
                "pointerSize": _POINTER_SIZE,
            }
    return told


def _entry(file: File) -> dict[str, object]:
    told: dict[str, object] = {
        "type": "file",
        "oid": file.etag[:40],
        "size": len(file.data),
        "path": file.path,
    }
    if file.is_large:
        told["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": _POINTER_SIZE}
    return told


# --- the repositories that are always there -----------------------------------------------------


@lru_cache(maxsize=1)
def build_repositories(model: Path | None) -> tuple[Repository, ...]:
    """Build all repositories of the practice Hub; for the same folder they are built once.

    Args:
        model: The folder of a model that can answer; without one the gated and the chat model
            are random as well.
    """
    answering = _read_folder(model) if model else checkpoints.llama()
    gpt2, phi3 = checkpoints.gpt2(), checkpoints.phi3()
    return (
        _repository("openai-community/gpt2", gpt2, licence="mit"),
        _repository("microsoft/Phi-3-mini-4k-instruct", checkpoints.shard(phi3), licence="mit"),
        _repository(
            "bigscience/bloom-1b7", checkpoints.bloom(), licence="bigscience-bloom-rail-1.0"
        ),
        _repository("HuggingFaceTB/SmolLM2-135M-Instruct", checkpoints.llama()),
        _repository("meta-llama/Llama-3.2-1B-Instruct", answering, gated=True, licence="llama3.2"),
        _repository("practice/chat", answering),
        _repository("practice/private", gpt2, private=True),
        _repository("practice/sharded", checkpoints.shard(gpt2, parts=3)),
        _repository("practice/bin-only", _pickled(gpt2)),
    )


def _repository(
    model_id: str,
    contents: Mapping[str, bytes],
    *,
    gated: bool = False,
    private: bool = False,
    licence: str = "apache-2.0",
) -> Repository:
    card = (
        f"---\nlicense: {licence}\npipeline_tag: text-generation\n---\n\n# {model_id}\n\n"
        "A stand-in on the practice Hub. It has the name of the real model, not its weights.\n"
    )
    texts = {"README.md": card.encode(), "LICENSE": b"A practice licence: learn and try.\n"}
    return Repository(model_id, {**contents, **texts}, gated, private, licence)


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
