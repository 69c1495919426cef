"""Computes batches with transformers' `generate`, for torch and for OpenVINO's drop-in models.

The pipeline object stays what LangChain knows it as, and what was configured in it counts. Its
call is not used: it runs prompts of a batch in the order they come, cannot stop rows on their own,
and decodes each text together with its prompt.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_pipelines.engines.growing import EndedAnswer, Ends, GrowingAnswer, grow_together
from local_pipelines.engines.memory import free_memory, is_shortage
from local_pipelines.engines.options import GENERATION_OPTIONS, merged
from local_pipelines.engines.prompts import UNLIMITED, checked_tokens, context_of
from local_pipelines.engines.report import AnswerCollector, BatchReport
from local_pipelines.engines.request import GenerationRequest
from local_pipelines.engines.stopping import checked_stop
from local_pipelines.engines.torch_grammar import GrammarHold
from local_pipelines.engines.torch_options import explained_options, generation_config
from local_pipelines.engines.turns import is_wanted
from local_pipelines.errors import MemoryShortageError, failure
from local_pipelines.wording.messages import tr

if TYPE_CHECKING:
    import torch

_TOKENIZER_OPTIONS = ("add_special_tokens", "truncation")


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as tokens, and its place among the others."""

    index: int
    ids: list[int]


class TorchRun:
    """One request to one pipeline; `defaults` count unless the request has its own options."""

    def __init__(
        self, pipeline: Any, request: GenerationRequest, defaults: dict[str, Any] | None = None
    ) -> None:
        self._pipeline = pipeline
        self.model = pipeline.model
        config = self.model.config  # the part of it that tells of the text has the sizes
        self._sized = config.get_text_config() if hasattr(config, "get_text_config") else config
        self._tokenizer = pipeline.tokenizer
        self.request = request
        self.collected = AnswerCollector(request)
        self._sizes: list[int] = []
        self._halvings = 0
        self._fits = request.batch_size  # rows, as far as is known
        self.report: BatchReport | None = None
        made_with = pipeline._forward_params
        made_with = {name: made_with[name] for name in GENERATION_OPTIONS & made_with.keys()}
        self._read_options(merged({**made_with, **(defaults or {})}, request.options))

    def _read_options(self, options: dict[str, Any]) -> None:
        """Sort options as the pipeline itself does: for the tokenizer, the model, the text."""
        options = {name: value for name, value in options.items() if name != "batch_size"}
        self._seed = options.pop("seed", None)
        stop = self.request.stop + checked_stop(options.pop("stop_strings", None))
        with explained_options():
            before, during, after = self._pipeline._sanitize_parameters(**options)
        self._tokenizing = {**self._pipeline._preprocess_params, **before}
        self._finishing = {**self._pipeline._postprocess_params, **after}
        generating = {**self._pipeline._forward_params, **during}
        for name in ("tokenizer", "prefix_length"):  # for `stop_strings`, and for the pipeline
            generating.pop(name, None)
        self._criteria = list(generating.pop("stopping_criteria", None) or ())
        self.config, self._extra = generation_config(self._pipeline, generating)
        stop += checked_stop(self.config.stop_strings)
        self.config.stop_strings = None  # generate's own search wants the tokenizer, and is slower
        special = special_tokens(self._tokenizer) if stop else {}
        self.ends = Ends.of(stop, special, _as_list(self.config.eos_token_id))
        if self.request.grammar is not None:
            if not self.is_single:
                raise failure("grammar-and-beams")
            self.hold(1, 0)  # so that what cannot be held to is refused before anything is computed

    def tokenize(self) -> list[TokenizedPrompt]:
        """Turn the prompts into tokens, and refuse what the model cannot read."""
        if not self.request.prompts:
            return []
        given = self._tokenizing
        options = {name: given[name] for name in _TOKENIZER_OPTIONS if name in given}
        if options.get("truncation") and given.get("max_length"):
            options["max_length"] = given["max_length"]
        options |= given.get("tokenizer_encode_kwargs") or {}
        if self.request.templated:
            options["add_special_tokens"] = False  # the template has written them
        prompts = [(given.get("prefix") or "") + prompt for prompt in self.request.prompts]
        encoded = self._tokenizer(prompts, verbose=False, **options)["input_ids"]
        return [
            TokenizedPrompt(place, self._checked(list(ids))) for place, ids in enumerate(encoded)
        ]

    def _checked(self, ids: list[int]) -> list[int]:
        if self._tokenizing.get("handle_long_generation") == "hole" and self.config.max_new_tokens:
            ids = ids[-max(1, self.context - self.config.max_new_tokens) :]
        size = getattr(self._sized, "vocab_size", None)
        known = size if isinstance(size, int) else None  # how many tokens it has vectors for
        return checked_tokens(ids, self.config.bos_token_id, self._limit, self.context, known)

    @property
    def is_special(self) -> bool:
        """Whether something is asked of `generate` that only `generate` itself can do."""
        asked = self._criteria or self._extra or self.request.grammar
        return bool(asked or self._seed is not None)

    @property
    def context(self) -> int:
        """How many tokens the model can take."""
        longest = getattr(self._tokenizer, "model_max_length", None)
        return context_of(lambda name: getattr(self._sized, name, None), longest)

    @property
    def _limit(self) -> int:
        """Tokens of prompt and answer together."""
        total = self.config.max_length if self.config.max_new_tokens is None else None
        return min(self.context, total or UNLIMITED)

    @property
    def follows(self) -> bool:
        """Whether text is needed while it is generated."""
        # With several beams a row's tokens change until the end, and its text is cut afterwards.
        return self.is_single and (bool(self.ends.strings) or self.request.emit is not None)

    @property
    def is_single(self) -> bool:
        """Whether a row is one text that grows."""
        config = self.config
        return (config.num_beams or 1) == 1 and (config.num_return_sequences or 1) == 1

    def longest_answer(self, row: TokenizedPrompt) -> int:
        """How many tokens a row's answer may have."""
        return min(self._limit - len(row.ids), self.config.max_new_tokens or UNLIMITED)

    def hold(self, rows: int, width: int) -> GrammarHold | None:
        """What holds rows, behind prompts of `width` tokens, to the grammar, if there is one."""
        grammar = self.request.grammar
        if grammar is None:
            return None
        return GrammarHold(self._tokenizer, grammar, self.ends.end_tokens, rows, width)

    def set_seed(self) -> None:
        """Begin torch's random numbers anew, if the request says where."""
        if self._seed is not None:
            import torch

            torch.manual_seed(self._seed % (1 << 64))

    def answer_batches(self, rows: list[TokenizedPrompt]) -> None:
        """Answer batch by batch, in halves from where memory runs out."""
        waiting = deque(self._batches(rows))
        while waiting and is_wanted(self.request.stopped):
            batch = waiting.popleft()
            if len(batch) > self._fits:
                waiting.extendleft((batch[self._fits :], batch[: self._fits]))
            elif left := self._try_batch(batch):
                self._fits = (len(left) + 1) // 2
                self._halvings += 1
                waiting.appendleft(left)

    def unanswered(self, rows: list[TokenizedPrompt]) -> list[TokenizedPrompt]:
        """The rows that have no answer yet."""
        return [row for row in rows if row.index not in self.collected]

    def reported(self, **facts: Any) -> BatchReport:
        """How the batches were computed; `facts` are what else there is to tell."""
        return self.collected.report(sizes=tuple(self._sizes), halvings=self._halvings, **facts)

    def _try_batch(self, batch: list[TokenizedPrompt]) -> list[TokenizedPrompt]:
        """Answer a batch and give the rows that memory was too small for."""
        watch = _BatchWatch(self, batch)
        start = time.perf_counter()
        try:
            tokens = self._generate(batch, watch)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            if len(batch) == 1:
                raise self._shortage(batch[0]) from None  # its frames hold the memory
        else:
            self.keep(batch, watch.ended(tokens), time.perf_counter() - start)
            self._sizes.append(len(batch))
            return []
        free_memory()
        done = watch.done_rows()  # rows that had found their end by then keep their answers
        seconds = time.perf_counter() - start
        self.keep([row for row in batch if row.index in done], list(done.values()), seconds)
        return self.unanswered(batch)

    def keep(self, rows: list[TokenizedPrompt], ended: list[EndedAnswer], seconds: float) -> None:
        """Keep the answers of rows that were computed together."""
        for row, answer in zip(rows, ended, strict=True):
            self.collected.keep(row.index, row.ids, answer, seconds)
        if rows:
            self.request.advance(len(rows))

    def _shortage(self, row: TokenizedPrompt) -> MemoryShortageError:
        fact = tr("Memory ran out over a single prompt of {number:,} tokens.")
        cause = tr("Model, prompt and answer together need more than {device} has free.")
        return MemoryShortageError(
            fact.format(number=len(row.ids)),
            cause.format(device=self._pipeline.device),
            tr(
                "Shorten the prompt or max_new_tokens, load the model with "
                'model_kwargs={"dtype": "bfloat16"}, or take a smaller one.'
            ),
        )

    def _batches(self, rows: list[TokenizedPrompt]) -> Iterator[list[TokenizedPrompt]]:
        """Put prompts of similar length together, the longest first.

        Little padding is computed then, and if memory is too small that is known at once. Rows of
        one batch may all grow by the same number of tokens: else a short prompt would be cut off
        earlier beside a long one than alone. Where word sequences may not come back, padding
        would be one of them: only rows of one length share a batch.
        """
        batch: list[TokenizedPrompt] = []
        for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
            if batch and (
                len(batch) == self.request.batch_size
                or self.longest_answer(row) != self.longest_answer(batch[0])
                or (self.config.no_repeat_ngram_size and len(row.ids) != len(batch[0].ids))
            ):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _generate(self, rows: list[TokenizedPrompt], watch: _BatchWatch) -> list[list[int]]:
        """The new tokens of each row, with what `generate` fills up behind its end."""
        import torch
        from transformers import StoppingCriteriaList

        width, device = max(len(row.ids) for row in rows), self._pipeline.device
        # Penalties count every token before the answer, masked ones too: filled up with a token
        # that a row has anyway, it is penalised as it would be alone.
        ids = torch.tensor([row.ids[:1] * (width - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (width - len(r.ids)) + [1] * len(r.ids) for r in rows])
        config = copy.deepcopy(self.config)
        own, most = self.model.generation_config, self.longest_answer(rows[0])
        config.max_new_tokens, config.max_length = most, None
        if own.max_length is not None and own.max_new_tokens is None:
            # transformers fills in the model's form of a limit, and then warns that there are two.
            config.max_new_tokens, config.max_length = None, width + most
        config.pad_token_id = self._pad_id()
        watch.seen = width
        watch.hold = self.hold(len(rows), width)
        hooks = self._criteria or self._extra.get("logits_processor")  # somebody else's code
        extra = self._extra if watch.hold is None else watch.hold.joined(self._extra)
        with explained_options(lambda: not (watch.has_begun or hooks)):
            output = self.model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([*self._criteria, watch.criterion()]),
                **extra,
            )
        output = getattr(output, "sequences", output)
        each = output.shape[0] // len(rows)  # num_return_sequences: the first is the best
        tokens: list[list[int]] = output[::each, width:].tolist()
        return tokens

    def _pad_id(self) -> int:
        for candidate in (self.config.pad_token_id, self._tokenizer.pad_token_id):
            if candidate is not None:
                return int(candidate)
        return min(self.ends.end_tokens, default=0)  # it is masked, so that any would do

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Decode rows of tokens."""
        options = {"skip_special_tokens": self._finishing.get("skip_special_tokens") is not False}
        # The Rust tokenizer itself, where nothing wraps its decoding, is four times as fast.
        if _is_plain(type(self._tokenizer)):
            decode = self._tokenizer.backend_tokenizer.decode_batch
        else:  # cleaning up blanks would change text that has been streamed already
            decode = self._tokenizer.batch_decode
            options["clean_up_tokenization_spaces"] = False
        return list(decode(rows, **options))


class _BatchWatch:
    """Looks at each token as it is generated, decides which rows are done, and emits text."""

    def __init__(self, run: TorchRun, rows: list[TokenizedPrompt]) -> None:
        self.has_begun = False
        self.seen = 0  # columns that have been read, at first those of the prompt
        self.hold: GrammarHold | None = None
        self._run = run
        self._rows = rows
        self._answers = [GrowingAnswer(row.ids, run.decode, run.ends) for row in rows]

    def criterion(self) -> Any:
        """What transformers asks after each token which rows are done."""
        import torch
        from transformers import StoppingCriteria

        watch = self

        class Criterion(StoppingCriteria):  # type: ignore[misc] # transformers is not typed
            def __call__(
                self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
            ) -> torch.Tensor:
                return torch.tensor(watch.done(input_ids), device=input_ids.device)

        return Criterion()

    def done(self, ids: torch.Tensor) -> list[bool]:
        """Take the tokens of all rows so far and say which rows are done."""
        self.has_begun = True
        if not is_wanted(self._run.request.stopped):
            return [True] * len(ids)
        complete = self.hold.take(ids) if self.hold else [False] * len(ids)
        if not self._run.follows:
            return complete
        rows: list[list[int]] = ids[:, self.seen :].tolist()  # usually one token in each
        self.seen = ids.shape[1]
        self._grow(rows)
        ended = [bool(answer.reason) for answer in self._answers]
        return [one or other for one, other in zip(ended, complete, strict=True)]

    def _grow(self, tokens: list[list[int]], *, last: bool = False) -> None:
        for text in grow_together(self._answers, tokens, self._run.decode, last=last):
            self._run.request.show(text)

    def ended(self, tokens: list[list[int]]) -> list[EndedAnswer]:
        """The answer of each row, after the last token."""
        unread: list[list[int]] = [[] for _ in tokens] if self._run.follows else tokens
        self._grow(unread, last=True)
        return [answer.ended for answer in self._answers]

    def done_rows(self) -> dict[int, EndedAnswer]:
        """The rows that have found their end so far, by their index; none if nobody followed."""
        answers = zip(self._rows, self._answers, strict=True)
        return {row.index: answer.ended for row, answer in answers if answer.reason}


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Tokens that no text shows, by their names: a stop string among them is found by its id."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token): number for number, token in added.items() if token.special}


def _as_list(value: Any) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _is_plain(kind: type) -> bool:
    """Whether a tokenizer's decoding is the Rust tokenizer's, without anything around it."""
    for name in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        base = next((b for b in kind.__mro__ if b.__name__ == name), None)
        if base is not None:
            names = ("_decode", "decode")
            return all(getattr(kind, n, None) is getattr(base, n, None) for n in names)
    return False
