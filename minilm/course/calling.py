"""Call a learner's function safely: with a time limit, a fixed seed, its own copy of the arguments, and its prints caught."""

import contextlib
import copy
import ctypes
import io
import itertools
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

# A generator's items are compared as a list: this many of them, in case it never ends.
MOST_ITEMS = 100_000


class TookTooLong(BaseException):
    """Raised inside the learner's code when its time is up; not an Exception, so that `except Exception` lets it pass."""


@dataclass(frozen=True)
class Outcome:
    """All that one call did."""

    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] | None = None

    @property
    def late(self) -> bool:
        """Whether the call was stopped because it took too long."""
        return isinstance(self.error, TookTooLong)

    @property
    def stuck(self) -> bool:
        """Whether it gave no value at all."""
        return self.error is not None


def run(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    seconds: float,
    seed: int = 0,
) -> Outcome:
    """Call the function on copies of the arguments, and say what came of it. Only a keyboard interrupt gets out."""
    own_args, own_kwargs = copy.deepcopy((tuple(args), dict(kwargs)))
    printed = io.StringIO()
    value: Any = None
    error: BaseException | None = None
    try:
        with seeded(seed), contextlib.redirect_stdout(printed), time_limit(seconds):
            value = function(*own_args, **own_kwargs)
            if isinstance(value, Iterator):
                value = list(itertools.islice(value, MOST_ITEMS))
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        value, error = None, problem
    return Outcome(value, error, printed.getvalue(), own_args, own_kwargs)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of `random`, and of numpy and torch where they are loaded; afterwards they go on as if nothing had been."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    before = random.getstate()
    numpy_before = numpy.random.get_state() if numpy else None
    torch_before = torch.random.get_rng_state() if torch else None
    random.seed(seed)
    if numpy:
        numpy.random.seed(seed)
    if torch:
        torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        if numpy:
            numpy.random.set_state(numpy_before)
        if torch:
            torch.random.set_rng_state(torch_before)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the body when the time is up, again and again in case a bare `except` swallows it.

    On Linux and macOS, in the main thread (where Jupyter runs cells), an alarm signal does it, which also ends a sleep.
    Elsewhere another thread asks the interpreter to raise it here, which works between any two Python instructions. Neither
    stops a single long operation inside a library: it ends first.
    """
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        limit = _by_alarm(seconds)
    else:
        limit = _by_thread(seconds)
    with limit:
        yield


@contextlib.contextmanager
def _by_alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # again, in case the alarm rang just before the line above
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    me = ctypes.c_ulong(threading.get_ident())
    done = threading.Event()
    turn = threading.Lock()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            wait = 0.2
            with turn:
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(TookTooLong))

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        try:
            done.set()
        finally:
            done.set()  # again, in case time was up just before the line above
            with turn:  # and the watcher is between its question and its deed: take the deed back
                ctypes.pythonapi.PyThreadState_SetAsyncExc(me, None)
