"""What a GGUF file announces: its metadata and tensors, read within bounds.

The format is llama.cpp's: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local_pipelines.errors import ModelError
from local_pipelines.wording.messages import tr

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

    def setting(self, name: str, default: Any = None) -> Any:
        """An entry of the architecture, such as "block_count"."""
        return self.metadata.get(f"{self.architecture}.{name}", default)


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
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise ModelError(
            tr("{file} is no whole GGUF file.").format(file=path.name),
            f"{error}.",
            tr("Download it again."),
        ) from error


class _Reader:
    """Reads numbers and texts, none beyond the file's end and none larger than makes sense."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, path: Path) -> GgufFile:
        if self._bytes(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        if (version := self._number("I")) not in _VERSIONS:
            raise ValueError(f"its version is {version}")
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
        if count > self._size - self._stream.tell():
            raise ValueError("it is cut off")
        return self._stream.read(count)
