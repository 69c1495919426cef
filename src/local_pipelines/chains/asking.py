"""Asks a chain many things at a time, and gives an answer or an error for each of them."""

from __future__ import annotations

import json
from typing import Any

_ALIKE = 3  # prompts that fail alone and alike, and nothing else: then the chain is at fault


class Asking:
    """Asks a chain that has answered so many, and finds out which prompts it fails for.

    Args:
        chain: What has LangChain's method `batch`.
        answered: How many prompts it has answered before. With none, a chain that fails for each
            prompt alike ends the work with its error.
    """

    def __init__(self, chain: Any, answered: int) -> None:
        self._chain = chain
        self._answered = answered
        self._alike: list[str] = []  # the errors of single prompts, while nothing was answered

    def outputs(self, prompts: list[Any], configs: list[Any] | None = None) -> list[Any]:
        """Give an answer or an error for each prompt; raise what a chain does for each of them.

        A chain may give all prompts of a batch the error of one: then they are asked in halves.

        Args:
            prompts: What the chain is asked.
            configs: LangChain's configuration of each prompt, such as its callbacks.
        """
        if not prompts:
            return []
        extra = {"config": configs} if configs else {}
        outputs: list[Any] = self._chain.batch(prompts, return_exceptions=True, **extra)
        for output in outputs:  # langchain-core gives back even the reader's Ctrl-C as an output
            if isinstance(output, BaseException) and not isinstance(output, Exception):
                raise output
        errors = [output for output in outputs if isinstance(output, Exception)]
        self._answered += len(outputs) - len(errors)
        if len(prompts) > 1 and len(errors) == len(prompts) and len({*map(repr, errors)}) == 1:
            half = len(prompts) // 2
            first, second = (configs[:half], configs[half:]) if configs else (None, None)
            return self.outputs(prompts[:half], first) + self.outputs(prompts[half:], second)
        if len(prompts) == 1 and errors:
            self._alike.append(repr(errors[0]))
            if not self._answered and len(self._alike) >= _ALIKE and len({*self._alike}) == 1:
                raise errors[0]
        return outputs


def error_text(error: Exception) -> str:
    """What stands in an answer's place.

    >>> error_text(ValueError("too long")), error_text(KeyError())
    ('too long', 'KeyError')
    """
    return str(error) or type(error).__name__


def storable(output: Any) -> Any:
    """An answer as JSON can keep it: of a message, its text; of NaN, its name.

    >>> storable({"score": float("nan"), "words": ("a", "b")})
    {'score': 'NaN', 'words': ['a', 'b']}
    """
    output = getattr(output, "content", output)
    try:
        return json.loads(json.dumps(output), parse_constant=str)
    except (TypeError, ValueError, RecursionError):
        return str(output)
