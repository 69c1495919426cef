"""Holds what transformers generates to a grammar, with llguidance.

llguidance and not xgrammar: its wheel has 8 MB and needs nothing else, the other's brings triton.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from local_pipelines.engines.grammar import Grammar
from local_pipelines.errors import failure

if TYPE_CHECKING:
    import torch

_MOST_KEPT = 64  # grammars of one tokenizer
_tokenizers: WeakKeyDictionary[Any, _Compiled] = WeakKeyDictionary()
_lock = Lock()


class _Compiled:
    """A tokenizer as llguidance knows it, and the grammars compiled for it, the last used last."""

    def __init__(self, tokenizer: Any, ends: tuple[int, ...]) -> None:
        llguidance = _import_llguidance()
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise failure("tokenizer-without-grammar", kind=type(tokenizer).__name__)
        import json

        data = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
        self.ends = ends
        try:
            self.known = llguidance.LLTokenizer(json.dumps(data), eos_token=list(ends) or None)
        except (ValueError, TypeError) as error:
            raise failure("tokenizer-without-grammar", kind=type(tokenizer).__name__) from error
        self._matchers: OrderedDict[Grammar, Any] = OrderedDict()
        self._matcher = llguidance.LLMatcher
        self._limits = llguidance.LLParserLimits(verbose_errors=False)

    def matcher(self, grammar: Grammar) -> Any:
        """A matcher at the beginning of an answer."""
        if grammar not in self._matchers:
            found = self._matcher(self.known, grammar.lark, log_level=0, limits=self._limits)
            if found.is_error():
                raise failure("grammar-refused", reason=found.get_error().partition("\n")[0])
            self._matchers[grammar] = found
            if len(self._matchers) > _MOST_KEPT:
                self._matchers.popitem(last=False)
        self._matchers.move_to_end(grammar)
        return self._matchers[grammar].deep_copy()


def _import_llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise failure("no-structured-extra", package="llguidance") from error
    return llguidance


class GrammarHold:
    """What holds the rows of one batch to a grammar."""

    def __init__(
        self, tokenizer: Any, grammar: Grammar, ends: Iterable[int], rows: int, width: int
    ) -> None:
        known = tuple(sorted(ends))
        with _lock:
            compiled = _tokenizers.get(tokenizer)
            if compiled is None or compiled.ends != known:
                compiled = _tokenizers[tokenizer] = _Compiled(tokenizer, known)
            self._matchers = [compiled.matcher(grammar) for _ in range(rows)]
        self._size = compiled.known.vocab_size
        self._ends = known
        self._seen = width
        self._over = [False] * rows

    def take(self, ids: torch.Tensor) -> list[bool]:
        """Take the tokens so far, and say which rows can have no more."""
        for place, tokens in enumerate(ids[:, self._seen :].tolist()):
            for token in tokens:
                if not self._over[place]:
                    matcher = self._matchers[place]
                    ended = token in self._ends or not matcher.consume_token(token)
                    # A model without a token for the end goes on: it is stopped here.
                    self._over[place] = ended or (not self._ends and matcher.is_stopped())
        self._seen = ids.shape[1]
        return self._over

    def joined(self, extra: dict[str, Any]) -> dict[str, Any]:
        """What else `generate` is given, with this behind the processors that are there."""
        from transformers import LogitsProcessorList

        others = extra.get("logits_processor") or []
        return {**extra, "logits_processor": LogitsProcessorList([*others, self._processor()])}

    def _processor(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """What transformers calls with the scores of each next token."""

        def masked(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            import torch

            self.take(ids)
            allowed = self._allowed(scores.shape[-1]).to(scores.device)
            lowest = torch.finfo(scores.dtype).min
            # Where a penalty has ruled out all that the grammar allows, the grammar counts.
            kept = torch.where(torch.isfinite(scores), scores, lowest)
            return kept.masked_fill(~allowed, float("-inf"))

        return masked

    def _allowed(self, size: int) -> torch.Tensor:
        import numpy as np
        import torch

        allowed = np.zeros((len(self._matchers), size), dtype=bool)
        most = min(size, self._size)
        for place, matcher in enumerate(self._matchers):
            if self._over[place]:
                allowed[place] = True  # what is filled up behind the end
                continue
            if matcher.is_stopped():
                allowed[place, list(self._ends)] = True
                continue
            bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            allowed[place, :most] = np.unpackbits(bits, bitorder="little")[:most]
        return torch.from_numpy(allowed)
