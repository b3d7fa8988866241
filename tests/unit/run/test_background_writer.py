"""Commits in the background: in order, bounded, and no error lost."""

import threading

import pytest
import torch

from featlight.run.background_writer import BackgroundWriter


def test_work_is_done_in_order_before_the_end():
    done = []
    with BackgroundWriter() as writer:
        for number in range(20):
            writer.submit(lambda number=number: done.append(number))
    assert done == list(range(20))


def test_an_error_is_raised_by_what_comes_next_and_what_follows_is_left():
    done, writer = [], BackgroundWriter()

    def give():
        with writer:
            writer.submit(lambda: (_ for _ in ()).throw(OSError("disk")))
            for number in range(20):
                writer.submit(lambda number=number: done.append(number))

    with pytest.raises(OSError, match="disk"):
        give()
    assert done == []


def test_an_error_of_the_last_work_is_raised_at_the_end():
    with pytest.raises(OSError, match="disk"), BackgroundWriter() as writer:
        writer.submit(lambda: (_ for _ in ()).throw(OSError("disk")))


def test_an_error_of_the_caller_is_not_replaced_and_what_was_given_is_done():
    done = []

    def interrupted():
        with BackgroundWriter() as writer:
            writer.submit(lambda: done.append(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [1]


def test_no_more_than_two_wait():
    gate, given = threading.Event(), []

    def give():
        with BackgroundWriter() as writer:
            for number in range(6):
                writer.submit(gate.wait)
                given.append(number)

    thread = threading.Thread(target=give)
    thread.start()
    thread.join(0.5)
    assert len(given) <= 2
    gate.set()
    thread.join()
    assert len(given) == 6


def test_its_thread_leaves_the_cores_to_the_descent():
    torch.set_num_threads(2)
    seen = []
    with BackgroundWriter() as writer:
        writer.submit(lambda: seen.append(torch.get_num_threads()))
    assert seen == [1]
    assert torch.get_num_threads() == 2
