"""Ctrl-C without loss: the first signal asks the run to stop after its step, the second one stops it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """Within `with StopSignals() as stop:`, SIGINT and SIGTERM set `stop.received` to the signal's name instead of ending the process.

    A second one raises KeyboardInterrupt where the program stands. Outside of the main thread, where Python cannot listen to
    signals, nothing changes.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._previous = {each: signal.signal(each, self._receive) for each in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
