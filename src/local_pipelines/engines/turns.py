"""A first-in, first-out lock for each model, for threads and tasks, with a way to stop its holder.

A model computes with all cores anyway, so two calls at once would only slow each other down, and
some engines do not bear it at all. A call that waits holds neither a thread nor the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
Emit = Callable[[str], None]
Job = Callable[[Emit, threading.Event], T]
"""Does the work: gives text to `Emit` as it comes and ends soon after the event is set."""

_Ticket = Future[None]
_GLANCE = 0.2  # seconds; on Windows a thread that waits without limit cannot be interrupted


@dataclass
class Finished(Generic[T]):
    """The last thing that a stream gives: what the job returned."""

    value: T


_Item = str | Finished[T] | BaseException


class Turns:
    """The first-in, first-out lock of one model."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a thread that cannot be started leaves within it
        self._tickets: deque[_Ticket] = deque()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait in this thread until it is our turn, and keep it for a `with` block."""
        ticket: _Ticket = Future()
        try:
            self._enter(ticket)
            _wait(ticket)
            yield
        finally:
            self._leave(ticket)

    def stream(self, job: Job[T]) -> Generator[str | Finished[T], None, None]:
        """Run a job in a thread and give its text as it comes; closing this stops the job."""
        inbox: SimpleQueue[_Item[T]] = SimpleQueue()
        leave = self._submit(job, inbox.put)
        item: _Item[T] = ""
        try:
            while not isinstance(item, Finished):
                item = _get(inbox)
                yield _raised(item)
        finally:
            leave()

    async def astream(self, job: Job[T]) -> AsyncGenerator[str | Finished[T], None]:
        """Do the same from an event loop, which stays free while the job waits and works."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[_Item[T]] = asyncio.Queue()

        def put(item: _Item[T]) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, item)

        leave = self._submit(job, put)
        item: _Item[T] = ""
        try:
            while not isinstance(item, Finished):
                item = await inbox.get()
                yield _raised(item)
        finally:
            leave()

    def _submit(self, job: Job[T], put: Callable[[_Item[T]], None]) -> Callable[[], None]:
        """Start a job when its turn comes; give what stops it, before that or afterwards."""
        stopped = threading.Event()
        ticket: _Ticket = Future()

        def work() -> None:
            item: _Item[T]
            try:
                item = Finished(job(put, stopped))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                item = error
            self._leave(ticket)
            with suppress(RuntimeError):  # the event loop is closed: nobody awaits anything
                put(item)

        # Not a daemon: torch must not be at work while the interpreter takes itself down. The job
        # sees that (`is_wanted`) and ends.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=False)

        def begin(ticket: _Ticket) -> None:
            if ticket.cancelled():
                return
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                self._leave(ticket)
                put(error)

        def leave() -> None:
            stopped.set()
            with self._lock:
                if ticket.cancel():  # its turn has not come
                    self._leave(ticket)

        # Whoever ends the call before starts this one. Were it the caller's event loop, a call
        # that blocks this loop would wait for its own loop for ever.
        ticket.add_done_callback(begin)
        self._enter(ticket)
        return leave

    def _enter(self, ticket: _Ticket) -> None:
        with self._lock:
            self._tickets.append(ticket)
            self._call_next()

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            with suppress(ValueError):  # interrupted before it was in the queue
                self._tickets.remove(ticket)
            self._call_next()

    def _call_next(self) -> None:
        if self._tickets and not self._tickets[0].done():
            self._tickets[0].set_result(None)


_turns: weakref.WeakKeyDictionary[object, Turns] = weakref.WeakKeyDictionary()
_turns_lock = threading.Lock()


def turns_of(model: object) -> Turns:
    """The lock of a model: the same one for everything that wraps the same model."""
    with _turns_lock:
        return _turns.setdefault(model, Turns())


def is_wanted(stopped: threading.Event) -> bool:
    """Say whether a job should go on: nobody has stopped it, and Python is not about to exit."""
    return not stopped.is_set() and threading.main_thread().is_alive()


def _raised(item: _Item[T]) -> str | Finished[T]:
    if isinstance(item, BaseException):
        raise item
    return item


def _wait(ticket: _Ticket) -> None:
    while not ticket.done():
        with suppress(FutureTimeoutError):
            ticket.result(_GLANCE)


def _get(inbox: SimpleQueue[T]) -> T:
    while True:
        with suppress(Empty):
            return inbox.get(timeout=_GLANCE)
