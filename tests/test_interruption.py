"""The first Ctrl-C asks, the second stops."""

import signal
import threading

import pytest

from maskerlib.running.interruption import Interrupted, interruptible


def test_the_first_asks_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible() as asked:
        assert asked() is False
        signal.raise_signal(signal.SIGINT)
        assert asked() is True
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second did nothing")
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_s_handler_stays():
    calls = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    try:
        with interruptible() as asked:
            signal.raise_signal(signal.SIGINT)
            assert calls == [signal.SIGINT] and not asked()
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_nothing_happens():
    found = []

    def work() -> None:
        with interruptible() as asked:
            found.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_notebook_shows_one_line():
    """IPython asks an exception for its traceback by this name, and prints the lines that it is given."""
    assert Interrupted("stopped at step 3 of 9")._render_traceback_() == ["Interrupted: stopped at step 3 of 9"]
