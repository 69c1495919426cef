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
from local_pipelines.engines.growing import (
    EndedAnswer,
    Ends,
    GrowingAnswer,
    ended_answers,
    grow_together,
)
from local_pipelines.engines.options import merged
from local_pipelines.engines.prompts import UNLIMITED, checked_tokens
from local_pipelines.engines.report import AnswerCollector, BatchReport
from local_pipelines.engines.request import GeneratedAnswer, GenerationRequest
from local_pipelines.engines.stopping import checked_stop
from local_pipelines.engines.turns import is_wanted
from local_pipelines.errors import ParameterError
from local_pipelines.openvino.config import last_line
from local_pipelines.wording.messages import tr


@dataclass(eq=False)
class _Row:
    """A prompt on its way to an answer."""

    index: int
    ids: list[int]
    handle: Any = None
    growing: GrowingAnswer | None = None
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
        self.collected = AnswerCollector(request)
        self.report: BatchReport | None = None

    def tokenize(self) -> list[_Row]:
        """Turn the prompts into tokens, and refuse what the model cannot read."""
        encoded = self._engine.encode(self.request.prompts, special=not self.request.templated)
        return [_Row(index, self._checked(ids)) for index, ids in enumerate(encoded)]

    def _checked(self, ids: list[int]) -> list[int]:
        model, first = self._engine, self._engine.first_token
        return checked_tokens(ids, first, self._limit, model.context, model.vocabulary)

    @property
    def _limit(self) -> int:
        """Tokens of prompt and answer together."""
        new = self._options.get("max_new_tokens")
        total = self._options.get("max_length") if new is None else None
        return min(self._engine.context, total or UNLIMITED)

    def _row_config(self, row: _Row) -> Any:
        """The configuration of one prompt: how far it may go, and its own random numbers."""
        config = self._engine.generation_config(self._options)
        room = self._limit - len(row.ids)
        config.max_new_tokens = min(room, self._options.get("max_new_tokens") or UNLIMITED)
        shortest = self._options.get("min_length")
        if shortest is not None and self._options.get("min_new_tokens") is None:
            config.min_new_tokens = max(0, shortest - len(row.ids))
        config.min_new_tokens = min(config.min_new_tokens, config.max_new_tokens)
        config.rng_seed = self._seed + row.index
        config.stop_token_ids = set(self._ends.end_tokens | self._ends.stop_tokens)
        try:
            config.validate()
        except RuntimeError as error:
            raise ParameterError(
                tr("OpenVINO GenAI does not take these options."),
                last_line(error),
                tr("Change or leave out what it names."),
            ) from error
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
        try:
            if self._streams(rows):
                self._stream(rows[0], configs[0])
            else:
                self._batch(rows, configs)
        finally:
            self.report = self.collected.report(engine="continuous")
        return self.collected.in_order()

    def _streams(self, rows: list[_Row]) -> bool:
        # In the main thread this is not left to the engine: only between steps does Python hear
        # an interrupt.
        elsewhere = threading.current_thread() is not threading.main_thread()
        return len(rows) == 1 and self._is_single and elsewhere

    def _stream(self, row: _Row, config: Any) -> None:
        self._begin(row, follow=True)

        def going_on(tokens: list[int]) -> bool:
            self._grow([row], [tokens])
            return not self._has_ended(row) and is_wanted(self.request.stopped)

        self._engine.stream(row.ids, config, going_on)
        self._finish([row])

    def _batch(self, rows: list[_Row], configs: list[Any]) -> None:
        """Keep `batch_size` rows at work until all are done."""
        waiting, active = deque(rows), dict[int, _Row]()
        try:
            while (waiting or active) and is_wanted(self.request.stopped):
                while waiting and len(active) < self.request.batch_size:
                    row = waiting.popleft()
                    self._begin(row, follow=self._follows)
                    row.handle = self._engine.start(row.index, row.ids, configs[row.index])
                    active[row.index] = row
                done = self._step(list(active.values()))
                self._finish(done)
                active = {n: row for n, row in active.items() if row not in done}
        finally:
            for row in active.values():
                row.handle.cancel()
            self._engine.clear()

    def _begin(self, row: _Row, *, follow: bool) -> None:
        row.start = time.perf_counter()
        if follow:
            row.growing = GrowingAnswer(row.ids, self._engine.decode, self._ends)

    def _step(self, rows: list[_Row]) -> list[_Row]:
        """Compute a token for each row and give the rows that are done; other threads wait."""
        self._engine.pipeline.step()
        if self._follows:
            growing = [row for row in rows if row.handle.can_read()]
            self._grow(growing, [_read(row.handle) for row in growing])
        done = []
        for row in rows:
            if self._engine.is_finished(row.handle):
                row.new = [] if self._follows else _best(row.handle)
                done.append(row)
            elif self._has_ended(row):
                row.handle.cancel()
                done.append(row)
        return done

    def _grow(self, rows: list[_Row], tokens: list[list[int]]) -> None:
        growing = [row.growing for row in rows if row.growing is not None]
        for text in grow_together(growing, tokens, self._engine.decode):
            self.request.show(text)

    def _has_ended(self, row: _Row) -> bool:
        return row.growing is not None and bool(row.growing.reason)

    def _finish(self, rows: list[_Row]) -> None:
        """Keep the answers of rows that are done."""
        now = time.perf_counter()
        for row, ended in zip(rows, self._ended(rows), strict=True):
            self.collected.keep(row.index, row.ids, ended, now - row.start)
        if rows:
            self.request.advance(len(rows))

    def _ended(self, rows: list[_Row]) -> list[EndedAnswer]:
        # All were followed as they grew, or none was.
        if followed := [row.growing for row in rows if row.growing is not None]:
            for growing in followed:
                self.request.show(growing.finish())
            return [growing.ended for growing in followed]
        ids, new = [row.ids for row in rows], [row.new for row in rows]
        answers = ended_answers(ids, new, self._engine.decode, self._ends)
        for answer in answers:
            self.request.show(answer.text)
        return answers


def _read(handle: Any) -> list[int]:
    tokens: list[int] = []
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
    return tokens


def _best(handle: Any) -> list[int]:
    """All tokens of the most probable answer."""
    return list(max(handle.read_all(), key=lambda output: output.score).generated_ids)
