"""Async calls leave the event loop free, queue up before the model, and can be cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

FRANCE = "What is the capital of France?"
STEPS = f"Question: {FRANCE}\n\nAnswer: Let's think step by step."


async def longest_pause(stop: asyncio.Event) -> float:
    """How long the event loop was ever blocked."""
    longest, last = 0.0, time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


class TestAsync:
    """What every engine promises."""

    async def test_all_ways_give_the_same_answer(self, llm: Any) -> None:
        """`ainvoke`, `abatch` and `astream` agree with `invoke`."""
        expected = llm.invoke(STEPS, stop=["\n\n"])
        assert await llm.ainvoke(STEPS, stop=["\n\n"]) == expected
        assert await llm.abatch([STEPS, FRANCE], stop=["\n\n"]) == [expected, llm.invoke(FRANCE)]
        pieces = [piece async for piece in llm.astream(STEPS, stop=["\n\n"])]
        assert "".join(pieces) == expected
        assert all(pieces)

    async def test_many_tasks_at_once(self, llm: Any) -> None:
        """Calls of all kinds from one loop are all answered, one after the other."""

        async def streamed() -> str:
            return "".join([piece async for piece in llm.astream(FRANCE)])

        answers = await asyncio.gather(*[llm.ainvoke(FRANCE) for _ in range(8)], streamed())
        assert set(answers) == {llm.invoke(FRANCE)}

    def test_many_threads_at_once(self, llm: Any) -> None:
        """Threads get their own answers."""
        prompts = [f"What is the capital of {name}?" for name in ("Peru", "Chile", "Japan")] * 4
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(llm.invoke, prompts))
        assert answers == [llm.invoke(prompt) for prompt in prompts]

    async def test_bad_prompts_are_told_apart(self, llm: Any) -> None:
        """`abatch(return_exceptions=True)` keeps the good answers."""
        outputs = await llm.abatch([FRANCE, ""], return_exceptions=True)
        assert "Paris" in outputs[0]
        assert isinstance(outputs[1], ValueError)


async def test_the_event_loop_stays_free(scripted: Any) -> None:
    """While a model works and calls wait for it, the loop is never blocked for long."""
    scripted.script.seconds_per_token = 0.05
    stop = asyncio.Event()
    watch = asyncio.create_task(longest_pause(stop))
    await asyncio.gather(*[scripted.ainvoke("abcd") for _ in range(3)])
    stop.set()
    assert await watch < 0.15
    assert scripted.script.most_at_work == 1


async def test_waiting_calls_hold_no_threads(scripted: Any) -> None:
    """A thousand waiting calls are a thousand tickets, not a thousand threads."""
    scripted.script.seconds_per_token = 0.3
    first = asyncio.create_task(scripted.ainvoke("ab"))
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(scripted.ainvoke("x")) for _ in range(1000)]
    await asyncio.sleep(0.2)
    assert threading.active_count() < 20
    for task in waiting:
        task.cancel()
    assert await first == "AB"


async def test_cancelling_a_task_ends_generation(scripted: Any) -> None:
    """The model stops within a token of the cancellation."""
    scripted.script.seconds_per_token = 0.02
    task = asyncio.create_task(scripted.ainvoke("x" * 1000))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = scripted.script.tokens
    await asyncio.sleep(0.2)
    assert 0 < count <= scripted.script.tokens <= count + 1


async def test_cancelling_a_task_that_waits_for_its_turn(scripted: Any) -> None:
    """The calls before and after it are answered."""
    scripted.script.seconds_per_token = 0.05
    tasks = [asyncio.create_task(scripted.ainvoke(word)) for word in ("first", "second", "third")]
    await asyncio.sleep(0.1)
    tasks[1].cancel()
    assert await asyncio.wait_for(tasks[0], 10) == "FIRST"
    assert await asyncio.wait_for(tasks[2], 10) == "THIRD"
    assert ["second"] not in scripted.script.calls


async def test_leaving_an_async_stream_ends_generation(scripted: Any) -> None:
    """`async for … break`, and closing the generator."""
    scripted.script.seconds_per_token = 0.02
    stream = scripted.astream("x" * 1000)
    async for _ in stream:
        break
    await stream.aclose()
    count = scripted.script.tokens
    await asyncio.sleep(0.2)
    assert scripted.script.tokens <= count + 1
    scripted.script.seconds_per_token = 0
    assert await asyncio.wait_for(scripted.ainvoke("next"), 10) == "NEXT"


async def test_a_time_limit_of_the_caller_works(scripted: Any) -> None:
    """`asyncio.timeout` around a call ends it, and the model is free again."""
    scripted.script.seconds_per_token = 0.05
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await scripted.ainvoke("x" * 1000)
    assert await asyncio.wait_for(scripted.ainvoke("ok"), 10) == "OK"


async def test_an_error_reaches_the_task(scripted: Any) -> None:
    """And the next call is answered."""
    scripted.script.fail_at = 2
    with pytest.raises(RuntimeError, match="the model broke"):
        await scripted.ainvoke("abcd")
    with pytest.raises(RuntimeError, match="the model broke"):
        [piece async for piece in scripted.astream("abcd")]
    scripted.script.fail_at = None
    assert await scripted.ainvoke("ok") == "OK"


def test_a_loop_that_is_closed_in_the_middle(scripted: Any) -> None:
    """The model ends, and the next loop can use it."""

    async def leave() -> None:
        async for _ in scripted.astream("x" * 1000):
            return

    scripted.script.seconds_per_token = 0.01
    asyncio.run(leave())
    scripted.script.seconds_per_token = 0
    assert asyncio.run(scripted.ainvoke("ok")) == "OK"


async def test_threads_and_tasks_share_one_queue(scripted: Any) -> None:
    """Never are two calls at the same model, whoever makes them."""
    scripted.script.seconds_per_token = 0.005
    await asyncio.gather(
        *[asyncio.to_thread(scripted.invoke, "thread") for _ in range(4)],
        *[asyncio.to_thread(lambda: list(scripted.stream("stream"))) for _ in range(4)],
        *[scripted.ainvoke("task") for _ in range(4)],
    )
    assert scripted.script.most_at_work == 1
    assert len(scripted.script.calls) == 12


async def test_two_wrappers_of_one_model_share_its_queue(scripted: Any) -> None:
    """The queue belongs to the model, not to the object around it."""
    scripted.script.seconds_per_token = 0.01
    other = type(scripted)(script=scripted.script)
    await asyncio.gather(scripted.ainvoke("one"), other.ainvoke("two"))
    assert scripted.script.most_at_work == 1


async def test_a_blocking_call_in_the_loop_waits_for_the_tasks_before_it(scripted: Any) -> None:
    """In a notebook a cell may call `invoke` while tasks of the same loop wait for the model."""
    scripted.script.seconds_per_token = 0.02
    tasks = [asyncio.create_task(scripted.ainvoke(word)) for word in ("one", "two", "three")]
    await asyncio.sleep(0.03)
    assert scripted.invoke("now") == "NOW"  # the loop is blocked meanwhile
    assert await asyncio.gather(*tasks) == ["ONE", "TWO", "THREE"]
