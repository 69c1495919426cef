"""What every engine asks of a prompt's tokens: that there are some, and not too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_pipelines.errors import failure

UNLIMITED = 1 << 30


def context_of(size_of: Callable[[str], Any], longest: Any) -> int:
    """How many tokens a model can take, by the sizes it names, or by its tokenizer's limit."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        if isinstance(size := size_of(name), int) and size > 0:
            return size
    known = isinstance(longest, int | float) and 0 < longest < UNLIMITED
    return int(longest) if known else UNLIMITED


def checked_tokens(
    ids: list[int], first: int | None, limit: int, context: int, vocabulary: int | None = None
) -> list[int]:
    """Return the tokens of a prompt that a model can read; those of an empty one are `first`.

    `limit` is what the options allow for prompt and answer together, `context` what the model can
    take; `vocabulary` is how many different tokens it knows, None if that is not known.

    >>> checked_tokens([], 0, 1024, 1024)
    [0]
    """
    if vocabulary is not None and ids and max(ids) >= vocabulary:
        raise failure("tokenizer-of-another-model", token=max(ids), number=vocabulary)
    if not ids and first is not None:
        return [first]
    if not ids:
        raise failure("prompt-empty")
    if len(ids) < limit:
        return ids
    reason = "prompt-longer-than-context" if limit == context else "prompt-longer-than-limit"
    raise failure(reason, number=len(ids), most=limit - 1, limit=limit, context=context)


def refuse_bytes(prompt: object) -> None:
    """Raise ParameterError for bytes, which LangChain takes for a list of messages."""
    if isinstance(prompt, bytes | bytearray):
        raise failure("prompt-bytes")


def check_text(prompt: object) -> None:
    """Refuse a prompt that is no text, or no text that can be encoded."""
    refuse_bytes(prompt)
    if not isinstance(prompt, str):
        raise failure("prompt-no-text", kind=type(prompt).__name__)
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a character that takes two places in UTF-16
        raise failure("prompt-half-character", place=error.start) from None
