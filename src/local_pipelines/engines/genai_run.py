"""One call of a model that OpenVINO GenAI runs."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local_pipelines.engines.genai_model import GenAIEngine, check_options
from local_pipelines.engines.growing import Ends, GrowingAnswer, grow_together
from local_pipelines.engines.options import merged
from local_pipelines.engines.prompts import UNLIMITED, checked_tokens
from local_pipelines.engines.report import AnswerCollector, BatchReport
from local_pipelines.engines.request import GeneratedAnswer, GenerationRequest
from local_pipelines.engines.stopping import checked_stop
from local_pipelines.engines.turns import is_wanted
from local_pipelines.errors import failure
from local_pipelines.openvino.config import last_line


@dataclass(eq=False)
class _Row:
    """A prompt on its way to an answer."""

    index: int
    ids: list[int]
    handle: Any = None
    growing: GrowingAnswer = field(init=False)
    start: float = 0.0
    new: list[int] = field(default_factory=list)


class GenAIRun:
    """One request to one engine; `defaults` count unless the request has its own options."""

    def __init__(
        self, engine: GenAIEngine, request: GenerationRequest, defaults: Mapping[str, Any]
    ) -> None:
        self._engine = engine
        self.request = request
        self._options = merged(defaults, request.options)
        check_options(self._options)
        self._config = engine.generation_config(self._options)
        stop = request.stop + checked_stop(self._options.get("stop_strings")) + engine.stop_strings
        special = engine.special_tokens if stop else {}
        self._ends = Ends.of(stop, special, self._config.stop_token_ids)
        seed = self._options.get("seed")
        self._seed = secrets.randbelow(UNLIMITED) if seed is None else seed % (1 << 63)
        if request.grammar is not None and not self._is_single:
            raise failure("grammar-and-beams")
        self.collected = AnswerCollector(request)
        self.report: BatchReport | None = None

    def tokenize(self) -> list[_Row]:
        """Turn the prompts into tokens, and refuse what the model cannot read."""
        model = self._engine
        encoded = model.encode(self.request.prompts, special=not self.request.templated)
        known = (model.first_token, self._limit, model.context, model.vocabulary)
        return [_Row(index, checked_tokens(ids, *known)) for index, ids in enumerate(encoded)]

    @property
    def _limit(self) -> int:
        """Tokens of prompt and answer together."""
        new = self._options.get("max_new_tokens")
        total = self._options.get("max_length") if new is None else None
        return min(self._engine.context, total or UNLIMITED)

    def _row_config(self, row: _Row) -> Any:
        """The configuration of one prompt: how far it may go, and its own random numbers."""
        config = self._engine.generation_config(self._options)
        left = self._limit - len(row.ids)
        config.max_new_tokens = min(left, self._options.get("max_new_tokens") or UNLIMITED)
        shortest = self._options.get("min_length")
        if shortest is not None and self._options.get("min_new_tokens") is None:
            config.min_new_tokens = max(0, shortest - len(row.ids))
        config.min_new_tokens = min(config.min_new_tokens, config.max_new_tokens)
        config.rng_seed = self._seed + row.index
        config.stop_token_ids = set(self._ends.end_tokens | self._ends.stop_tokens)
        if self.request.grammar is not None:
            self._engine.hold(config, self.request.grammar)
        try:
            config.validate()
        except RuntimeError as error:
            raise failure("genai-options", last_line(error)) from error
        return config

    @property
    def _is_single(self) -> bool:
        """Whether a row is one text that grows; with several beams it changes until the end."""
        return bool(self._config.num_beams == 1)

    @property
    def _follows(self) -> bool:
        return self._is_single and (bool(self._ends.strings) or self.request.emit is not None)

    def answers(self) -> list[GeneratedAnswer]:
        """Answer all prompts of the request, in their order."""
        rows = self.tokenize()
        configs = [self._row_config(row) for row in rows]
        self._engine.prepare([row.ids for row in rows], beams=not self._is_single)
        try:
            # In the main thread this is not left to the engine: only between steps does Python
            # hear an interrupt.
            elsewhere = threading.current_thread() is not threading.main_thread()
            if len(rows) == 1 and self._is_single and elsewhere:
                self._stream(rows[0], configs[0])
            else:
                self._batch(rows, configs)
        finally:
            self.report = self.collected.report(engine="continuous")
        return self.collected.in_order()

    def _stream(self, row: _Row, config: Any) -> None:
        self._begin(row)

        def going_on(tokens: list[int]) -> bool:
            self._grow([row], [tokens])
            return not row.growing.reason and is_wanted(self.request.stopped)

        self._engine.stream(row.ids, config, going_on)
        self._finish([row])

    def _batch(self, rows: list[_Row], configs: list[Any]) -> None:
        """Keep `batch_size` rows at work until all are done."""
        waiting, active = deque(rows), list[_Row]()
        try:
            while (waiting or active) and is_wanted(self.request.stopped):
                while waiting and len(active) < self.request.batch_size:
                    row = waiting.popleft()
                    self._begin(row)
                    row.handle = self._engine.start(row.index, row.ids, configs[row.index])
                    active.append(row)
                done = self._step(active)
                self._finish(done)
                active = [row for row in active if row not in done]
        finally:
            for row in active:
                row.handle.cancel()
            self._engine.clear()

    def _begin(self, row: _Row) -> None:
        row.start = time.perf_counter()
        row.growing = GrowingAnswer(row.ids, self._engine.decode, self._ends)

    def _step(self, rows: list[_Row]) -> list[_Row]:
        """Compute a token for each row and give the rows that are done; other threads wait."""
        self._engine.pipeline.step()
        if self._follows:
            readable = [row for row in rows if row.handle.can_read()]
            self._grow(readable, [_read(row.handle) for row in readable])
        done = [row for row in rows if row.growing.reason or self._engine.is_finished(row.handle)]
        for row in done:
            if not self._engine.is_finished(row.handle):
                row.handle.cancel()
            elif not self._follows:
                row.new = _best(row.handle)
        return done

    def _grow(self, rows: list[_Row], tokens: list[list[int]], *, last: bool = False) -> None:
        answers = [row.growing for row in rows]
        for text in grow_together(answers, tokens, self._engine.decode, last=last):
            self.request.show(text)

    def _finish(self, rows: list[_Row]) -> None:
        """Keep the answers of rows that are done."""
        self._grow(rows, [row.new for row in rows], last=True)
        now = time.perf_counter()
        for row in rows:
            self.collected.keep(row.index, row.ids, row.growing.ended, now - row.start)
        if rows:
            self.request.advance(len(rows))


def _read(handle: Any) -> list[int]:
    tokens: list[int] = []
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
    return tokens


def _best(handle: Any) -> list[int]:
    """All tokens of the most probable answer."""
    return list(max(handle.read_all(), key=lambda output: output.score).generated_ids)
