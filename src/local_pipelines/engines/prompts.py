"""What every engine asks of a prompt's tokens: that there are some, and not too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_pipelines.errors import ModelError, ParameterError
from local_pipelines.wording.messages import tr

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

    Args:
        ids: The prompt's tokens.
        first: The token with which the model begins a text; None if it has none.
        limit: Tokens of prompt and answer together that the options allow.
        context: Tokens that the model can take.
        vocabulary: How many different tokens the model knows; None if that is not known.

    >>> checked_tokens([], 0, 1024, 1024)
    [0]
    """
    if vocabulary is not None and ids and max(ids) >= vocabulary:
        fact = tr("The tokenizer gives token {token}, and the model knows {number:,} tokens.")
        raise ModelError(
            fact.format(token=max(ids), number=vocabulary),
            tr("They do not belong together."),
            tr("Take model and tokenizer from the same folder."),
        )
    if not ids and first is not None:
        return [first]
    if not ids:
        raise ParameterError(
            tr("The prompt is empty."),
            tr("This model has no token to begin a text with."),
            tr("Write at least one word."),
        )
    if len(ids) < limit:
        return ids
    fact = tr("The prompt has {number:,} tokens; {most:,} is the most here.")
    fact = fact.format(number=len(ids), most=limit - 1)
    if limit < context:
        cause = tr("max_length={limit} counts the prompt too.").format(limit=limit)
        raise ParameterError(fact, cause, tr("Write max_new_tokens instead of max_length."))
    cause = tr("This model reads {context:,} tokens, prompt and answer together.")
    step = tr("Shorten the prompt, or split it into several.")
    raise ParameterError(fact, cause.format(context=context), step)


def refuse_bytes(prompt: object) -> None:
    """Raise ParameterError for bytes, which LangChain takes for a list of messages."""
    if isinstance(prompt, bytes | bytearray):
        raise ParameterError(
            tr("The prompt is bytes, not text."),
            tr("Bytes become text only with an encoding."),
            tr('Write prompt.decode("utf-8").'),
        )


def check_text(prompt: object) -> None:
    """Refuse a prompt that is no text, or no text that can be encoded."""
    refuse_bytes(prompt)
    if not isinstance(prompt, str):
        raise ParameterError(
            tr("The prompt is of type {kind}, not text.").format(kind=type(prompt).__name__),
            next_step=tr("Write the prompt in quotes, or turn it into text with str(…)."),
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a character that takes two places in UTF-16
        fact = tr("The prompt has no character at place {place}, but half of one.")
        raise ParameterError(
            fact.format(place=error.start),
            tr("It was cut in the middle, or read in the wrong encoding."),
            tr('Read the text again with encoding="utf-8".'),
        ) from None
