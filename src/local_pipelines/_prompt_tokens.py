"""What every engine asks of a prompt's tokens: that there are some, and not too many."""

from __future__ import annotations

from local_pipelines._messages import tr
from local_pipelines.errors import ModelError, ParameterError

__all__ = ["checked_tokens"]


def checked_tokens(
    ids: list[int],
    *,
    first: int | None,
    limit: int,
    context: int,
    vocabulary: int | None = None,
) -> list[int]:
    """Return the tokens of a prompt that a model can read; those of an empty one are its first.

    Args:
        ids: The prompt's tokens.
        first: The token with which the model begins a text; None if it has none.
        limit: Tokens of prompt and answer together that the options allow.
        context: Tokens that the model can take.
        vocabulary: How many different tokens the model knows; None if that is not known.

    Raises:
        ParameterError: There is nothing to read, or no room for an answer.
        ModelError: The tokenizer gives tokens that the model does not know.

    >>> checked_tokens([], first=0, limit=1024, context=1024)
    [0]
    """
    if vocabulary is not None and ids and max(ids) >= vocabulary:
        raise ModelError(
            tr("The tokenizer gives token {token}, and the model knows {number:,} tokens.").format(
                token=max(ids), number=vocabulary
            ),
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
    fact = tr("The prompt has {number:,} tokens; {most:,} is the most here.").format(
        number=len(ids), most=limit - 1
    )
    if limit == context:
        raise ParameterError(
            fact,
            tr("This model reads {context:,} tokens, prompt and answer together.").format(
                context=context
            ),
            tr("Shorten the prompt, or split it into several."),
        )
    raise ParameterError(
        fact,
        tr("max_length={limit} counts the prompt too.").format(limit=limit),
        tr("Write max_new_tokens instead of max_length."),
    )
