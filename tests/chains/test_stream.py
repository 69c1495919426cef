"""A stream gives whole characters at once, nothing of a stop string, and ends when it is left."""

from __future__ import annotations

import functools
import gc
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

FRANCE = "What is the capital of France?"
STEPS = f"Question: {FRANCE}\n\nAnswer: Let's think step by step."


@contextmanager
def slowed(llm: Any, seconds: float = 0.0, fail_at: int | None = None) -> Iterator[list[float]]:
    """Have each token of a model take longer, or one of them fail; give the times of all."""
    model = llm.pipeline.model
    forward, times = model.forward, []

    @functools.wraps(forward)
    def slow(*args: Any, **kwargs: Any) -> Any:
        times.append(time.monotonic())
        if len(times) - 1 == fail_at:
            raise RuntimeError("the weights are gone, say")
        time.sleep(seconds)
        return forward(*args, **kwargs)

    model.forward = slow
    try:
        yield times
    finally:
        del model.forward


def settled(times: list[float], pause: float = 0.3) -> int:
    """How many tokens there are once no more come."""
    count = -1
    while count != len(times):
        count = len(times)
        time.sleep(pause)
    return count


class TestStream:
    """What every engine promises."""

    @pytest.mark.parametrize("prompt", [FRANCE, STEPS, "法国的首都是哪里？", "Hola"])
    @pytest.mark.parametrize("stop", [None, ["\n\n"], ["Paris"], ["ital of", "zz"]])
    def test_the_pieces_are_the_answer(self, llm: Any, prompt: str, stop: list[str] | None) -> None:
        """Joined, the pieces are what `invoke` gives; none of them is empty."""
        pieces = list(llm.stream(prompt, stop=stop))
        assert "".join(pieces) == llm.invoke(prompt, stop=stop)
        assert len(pieces) > 1
        assert all(pieces)

    def test_nothing_of_a_stop_string_is_shown(self, llm: Any) -> None:
        """Not even its beginning."""
        shown = ""
        for piece in llm.stream(FRANCE, stop=["capital of France is Paris"]):
            shown += piece
            assert "The ".endswith(shown.lstrip()) or "The ".startswith(shown.lstrip())
        assert shown.strip() == "The"

    def test_the_prompt_is_shown_only_on_request(self, llm: Any) -> None:
        """`skip_prompt=False` echoes here as it does in `invoke`."""
        echoing = llm.bind(skip_prompt=False)
        assert "".join(echoing.stream(FRANCE)) == echoing.invoke(FRANCE)
        assert "".join(llm.stream(FRANCE)) == llm.invoke(FRANCE)

    def test_the_cost_is_in_the_last_chunk(self, llm: Any) -> None:
        """Callbacks get the same figures that `generate` gives."""
        ended: list[Any] = []

        class Listener(BaseCallbackHandler):
            def on_llm_end(self, response: Any, **kwargs: Any) -> None:
                ended.append(response.generations[0][0])

        list(llm.stream(FRANCE, {"callbacks": [Listener()]}))
        expected = llm.generate([FRANCE]).generations[0][0]
        for name in ("finish_reason", "input_tokens", "output_tokens"):
            assert ended[0].generation_info[name] == expected.generation_info[name]
        assert ended[0].text == expected.text

    def test_a_model_is_free_after_a_stream_was_left(self, llm: Any) -> None:
        """Leaving a stream after its first piece ends it; the next call is answered."""
        stream = llm.stream(STEPS)
        next(stream)
        stream.close()
        assert llm.invoke(FRANCE).strip() == "The capital of France is Paris."

    def test_a_call_within_the_loop_over_a_stream(self, llm: Any) -> None:
        """The same model may be asked while its stream is being read."""
        answers = [llm.invoke(FRANCE) for piece in llm.stream(FRANCE) if "Par" in piece]
        assert answers == [llm.invoke(FRANCE)]


def test_the_first_piece_comes_with_the_first_token(torch_llm: Any) -> None:
    """Nothing waits for a second token."""
    with slowed(torch_llm, 0.1) as times:
        stream = torch_llm.stream(FRANCE)
        assert next(stream)
        assert len(times) <= 2  # the second one has begun
        stream.close()
        settled(times)


def test_closing_a_stream_ends_generation_within_a_token(torch_llm: Any) -> None:
    """No thread goes on generating for nobody."""
    with slowed(torch_llm, 0.05) as times:
        stream = torch_llm.stream(STEPS)
        next(stream)
        seen = len(times)
        stream.close()
        assert settled(times) <= seen + 2


def test_a_forgotten_stream_ends_too(torch_llm: Any) -> None:
    """`for … break` without `close` is how people leave a stream."""
    with slowed(torch_llm, 0.05) as times:
        for _ in torch_llm.stream(STEPS):
            break
        gc.collect()
        assert settled(times) <= 4


def test_interrupting_the_kernel_ends_generation(torch_llm: Any) -> None:
    """A KeyboardInterrupt while a piece is awaited ends the model's work as well."""
    import _thread

    with slowed(torch_llm, 0.2) as times:
        timer = threading.Timer(0.5, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            list(torch_llm.stream(STEPS))
        assert settled(times, 0.5) <= 5
    assert torch_llm.invoke(FRANCE).strip() == "The capital of France is Paris."


def test_interrupting_an_invoke_leaves_the_model_usable(torch_llm: Any) -> None:
    """The same for a call that is not a stream."""
    import _thread

    with slowed(torch_llm, 0.1):
        threading.Timer(0.3, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            torch_llm.invoke(STEPS)
    assert torch_llm.invoke(FRANCE).strip() == "The capital of France is Paris."


@pytest.mark.parametrize("token", [0, 3])
def test_an_error_is_raised_at_once(torch_llm: Any, token: int) -> None:
    """The error itself, where the stream is read; upstream waits 60 s and raises queue.Empty."""
    with slowed(torch_llm, fail_at=token):
        start = time.monotonic()
        with pytest.raises(RuntimeError, match="the weights are gone, say"):
            list(torch_llm.stream(STEPS))
        assert time.monotonic() - start < 10
    assert torch_llm.invoke(FRANCE).strip() == "The capital of France is Paris."


def test_a_slow_token_is_awaited(scripted: Any) -> None:
    """There is no time limit; glances at the interrupt flag do not end the wait."""
    scripted.script.seconds_per_token = 0.7
    assert "".join(scripted.stream("ab")) == "AB"


def test_a_process_ends_although_a_stream_is_open(run_python: Any) -> None:
    """A script that ends in the middle of a stream ends within a token."""
    code = (
        "import time\n"
        "from local_pipelines import LocalPipeline\n"
        "llm = LocalPipeline.from_model_id('pocket', pipeline_kwargs={'max_new_tokens': 900})\n"
        "model = llm.pipeline.model; forward = model.forward\n"
        "def slow(*args, **kwargs):\n    time.sleep(0.1); return forward(*args, **kwargs)\n"
        "import functools; model.forward = functools.wraps(forward)(slow)\n"
        "stream = llm.stream('a', min_new_tokens=800)\n"
        "print(bool(next(stream)))\n"
    )
    start = time.monotonic()
    assert run_python(code) == "True\n"
    assert time.monotonic() - start < 60  # 80 s of tokens were still to come


def test_random_tokens_are_decoded_as_a_whole(random_llm: Any) -> None:
    """Whatever a model writes, broken characters included, the stream equals the answer."""
    generator = random.Random(1)
    words = ["😀", "a", "日本", "مرحبا", " the", "\n", "é", "👩‍👩‍👧"]
    broken = 0
    for _ in range(40):
        prompt = "".join(generator.choices(words, k=5))
        pieces = list(random_llm.stream(prompt, do_sample=True, seed=3))
        answer = random_llm.invoke(prompt, do_sample=True, seed=3)
        assert "".join(pieces) == answer
        assert all(pieces)
        broken += "\ufffd" in answer
    assert broken  # else the test would say nothing about broken characters


def test_a_tokenizer_in_python_decodes_the_same(
    torch_llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the Rust tokenizer cannot be used, the slower way gives the same text."""
    from local_pipelines.engines import torch_run

    fast = list(torch_llm.stream("法国的首都是哪里？")), torch_llm.batch([FRANCE, STEPS])
    monkeypatch.setattr(torch_run, "_is_plain", lambda _: False)
    assert (list(torch_llm.stream("法国的首都是哪里？")), torch_llm.batch([FRANCE, STEPS])) == fast
