"""What a GGUF file announces: its metadata and tensors, read within bounds.

The format is llama.cpp's: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local_pipelines.errors import ModelError
from local_pipelines.models.checkpoint import Shape
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import is_whole

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
# A file that announces more is no model but an attack or damage: the largest vocabularies hold
# some 300,000 tokens, the largest models some thousand tensors of at most four dimensions.
_MOST_ENTRIES, _MOST_TENSORS, _MOST_ITEMS, _MOST_DIMENSIONS = 10_000, 100_000, 2_000_000, 4
_LONGEST_TEXT = 2**24
_LARGEST_SIZE = 2**31


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a GGUF file.

    Args:
        name: Its name in llama.cpp, such as "blk.0.attn_q.weight".
        shape: Rows first, as in PyTorch (the file has it the other way round).
        kind: The number of its format in ggml; 0 is float32, 8 is Q8_0.
        offset: Bytes from the file's beginning.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file announces.

    Args:
        path: The file.
        metadata: Its entries by name: "general.architecture", "llama.block_count" …
        tensors: Its tensors, in the file's order.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """The name of the model's kind in llama.cpp, such as "llama" or "qwen2"."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """How many trained numbers the file holds."""
        return sum(tensor.numbers for tensor in self.tensors)

    @property
    def main_kind(self) -> int:
        """The number of the format that most of its numbers have; -1 if it has none."""
        counts: Counter[int] = Counter()
        for tensor in self.tensors:
            counts[tensor.kind] += tensor.numbers
        return max(counts, key=counts.__getitem__, default=-1)

    @property
    def shape(self) -> Shape:
        """The measures that decide the size of its KV cache."""
        heads, width = self.whole("attention.head_count"), self.whole("embedding_length")
        return Shape(
            self.whole("block_count"),
            self.whole("attention.head_count_kv") or heads,
            self.whole("attention.key_length") or (width // heads if width and heads else None),
            self.whole("context_length"),
        )

    def tensor(self, name: str) -> GgufTensor | None:
        """The tensor of that name, if there is one."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    def setting(self, name: str, default: Any = None) -> Any:
        """An entry of the architecture, such as "rope.freq_base"."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def whole(self, name: str) -> int | None:
        """A size, such as "block_count"; None where there is none that can be."""
        value = self.setting(name)
        return value if is_whole(value, 1, _LARGEST_SIZE) else None


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, by its name or, as in Ollama's store, by its bytes."""
    if path.suffix.lower() == ".gguf":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == _MAGIC


def read_gguf(path: Path) -> GgufFile:
    """Read a GGUF file's header.

    Args:
        path: The file; its weights are not read.

    Raises:
        ModelError: It is no GGUF file, is cut off, or announces what no model has.
    """
    try:
        with path.open("rb") as stream:
            return _Reader(stream, path.stat().st_size).read(path)
    except FileNotFoundError:
        raise ModelError(
            tr("The file {file} was not found.").format(file=path),
            next_step=tr("Correct the path."),
        ) from None
    except ModelError:
        raise
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise ModelError(
            tr("{file} is no whole GGUF file.").format(file=path.name),
            f"{error}.",
            tr("Download it again."),
        ) from error


def _is_another(path: Path, version: int) -> ModelError:
    cause = tr("It is in version {version} of the format; read here are 2 and 3.").format(
        version=version
    )
    if version % 2**16 == 0:  # its bytes stand the other way round
        cause = tr("It was written for machines that write numbers the other way round.")
    return ModelError(
        tr("{file} is a GGUF file that is not read here.").format(file=path.name),
        cause,
        tr("Fetch a newer file of the same model."),
    )


class _Reader:
    """Reads numbers and texts, none beyond the file's end and none larger than makes sense."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size, self._left = stream, size, size

    def read(self, path: Path) -> GgufFile:
        if self._bytes(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        if (version := self._number("I")) not in _VERSIONS:
            raise _is_another(path, version)
        tensors = self._count(_MOST_TENSORS, "tensors")
        entries = self._count(_MOST_ENTRIES, "entries")
        metadata = {self._text(): self._value(self._number("I")) for _ in range(entries)}
        raw = [self._tensor() for _ in range(tensors)]
        return GgufFile(path, metadata, self._placed(raw, metadata))

    def _placed(
        self, tensors: list[GgufTensor], metadata: dict[str, Any]
    ) -> tuple[GgufTensor, ...]:
        alignment = int(metadata.get("general.alignment", 32))
        if not 0 < alignment <= 2**16:
            raise ValueError(f"its alignment is {alignment}")
        start = -(-self._stream.tell() // alignment) * alignment
        placed = [GgufTensor(t.name, t.shape, t.kind, start + t.offset) for t in tensors]
        if any(tensor.offset >= self._size for tensor in placed):
            raise ValueError("it ends before its weights do")
        return tuple(placed)

    def _tensor(self) -> GgufTensor:
        name = self._text()
        dimensions = self._count(_MOST_DIMENSIONS, "dimensions", "I")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        kind, offset = self._number("I"), self._number("Q")
        if math.prod(shape) > self._size * 16:  # the smallest formats take more than half a bit
            raise ValueError(f"{name!r} is larger than the file")
        return GgufTensor(name, shape[::-1], kind, offset)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise ValueError(f"it has an entry of the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind = self._number("I")
        count = self._count(_MOST_ITEMS, "items")
        if kind in _SCALARS:
            form = f"<{count}{_SCALARS[kind]}"
            return list(struct.unpack(form, self._bytes(struct.calcsize(form))))
        if kind != _STRING:
            raise ValueError("it has an array of arrays")
        return [self._text() for _ in range(count)]

    def _text(self) -> str:
        return self._bytes(self._count(_LONGEST_TEXT, "letters")).decode("utf-8")

    def _count(self, most: int, what: str, form: str = "Q") -> int:
        number = int(self._number(form))
        if number > most:
            raise ValueError(f"it announces {number} {what}")
        return number

    def _number(self, form: str) -> Any:
        return struct.unpack("<" + form, self._bytes(struct.calcsize("<" + form)))[0]

    def _bytes(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError("it is cut off")
        self._left -= count
        return self._stream.read(count)
