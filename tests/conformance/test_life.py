"""From ``init_context`` to the end: drain and termination."""

import threading
from collections.abc import Callable

from tests.conformance.conftest import Start
from tests.conformance.differences import OURS, PROCESSOR, Difference, Driver
from tests.conformance.messages import Reply, Request

DRAINED = ["drain begins", "drain ends"]
TERMINATED = ["termination begins", "termination ends"]


def end(function: object, driver: Driver) -> None:
    """The order that a platform keeps: the worker is told, then it ends."""
    if driver == OURS:
        function.stop()  # type: ignore[attr-defined]
    else:
        function.terminate()  # type: ignore[attr-defined]


def test_init_context_runs_once_before_any_call(start: Start, driver: Driver) -> None:
    function = start(driver, "life", afresh=True)
    assert function.notes.lines() == ["init"]
    for _ in range(3):
        function.ask(Request("/seen"))
    assert function.notes.lines() == ["init"]


def test_a_drain_calls_the_function_and_waits_for_it(start: Start, reader: Driver) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    function.drain()
    assert function.notes.lines() == ["init", *DRAINED]
    function.drain()
    assert function.notes.lines() == ["init", *DRAINED, *DRAINED]
    assert function.ask(Request("/seen")).status == 200


def test_a_call_at_work_ends_before_the_drain_begins(start: Start, reader: Driver) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    replies: list[Reply] = []
    if reader == OURS:
        asking = threading.Thread(target=lambda: replies.append(function.ask(Request("/slow"))))
        asking.start()
        function.notes.wait_for("slow begins")
        function.drain()
        asking.join()
    else:
        replies.append(function.ask_and_drain(Request("/slow"), "slow begins"))
    assert function.notes.lines() == ["init", "slow begins", "slow ends", *DRAINED]
    assert replies[0].body == b"slow"


def test_the_last_callback_that_was_set_counts_and_need_not_wait(start: Start, reader: Driver) -> None:
    function = start(reader, "plain_life", afresh=True, reads=True)
    function.drain()
    assert function.notes.lines() == ["drain"]


def test_without_callbacks_there_is_nothing_to_wait_for(start: Start, driver: Driver) -> None:
    function = start(driver, "bare", afresh=True, handler="score")
    end(function, driver) if driver != "wrapper" else None
    assert function.notes.lines() == []


def test_a_worker_that_ends_is_told(start: Start, driver: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(driver, "life", afresh=True)
    end(function, driver)
    if driver == OURS:
        assert function.notes.lines() == ["init", *DRAINED, *TERMINATED]
    else:
        differs("drain before the end")
        assert function.notes.lines() == ["init", *TERMINATED]


def test_a_callback_that_does_not_wait_is_told_too(start: Start, driver: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(driver, "plain_life", afresh=True)
    end(function, driver)
    if driver == OURS:
        assert function.notes.lines() == ["drain", "termination"]
    else:
        differs("drain before the end")
        assert function.notes.lines() == ["termination"]


def test_what_is_asked_last_is_answered(start: Start, server: Driver) -> None:
    function = start(server, "life", afresh=True)
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(function.ask(Request("/slow"))))
    asking.start()
    function.notes.wait_for("slow begins")
    end(function, server)
    asking.join()
    assert [reply.body for reply in replies] == [b"slow"]
    assert server == PROCESSOR or "termination ends" in function.notes.lines()
