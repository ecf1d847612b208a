"""Items come in order, errors where they belong, and nothing runs on unasked."""

import concurrent.futures
import itertools
import threading

import pytest

from sat_tf.runtime.ahead import ahead, in_order


def test_items_come_in_order_and_then_the_error():
    def items():
        yield from range(5)
        raise ValueError("spoilt")

    found = []
    with pytest.raises(ValueError, match="spoilt"):
        for item in ahead(items(), 2):
            found.append(item)
    assert found == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 3])
def test_it_runs_so_far_ahead_and_no_farther(size):
    made, enough, closed = [], threading.Event(), []

    def endless():
        try:
            for i in itertools.count():
                made.append(i)
                if len(made) == size + 1:
                    enough.set()
                yield i
        finally:
            closed.append(threading.current_thread())

    items = ahead(endless(), size)
    assert next(items) == 0
    assert enough.wait(60)  # while nobody asks
    assert len(made) == size + 1
    items.close()
    assert len(closed) == 1 and not closed[0].is_alive()


def test_what_waits_is_given_where_the_next_is_long_in_coming():
    taken = []

    def items():
        for item in ("a", "b", None, "c"):
            taken.append(item)
            yield item

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = in_order(pool, str.upper, items(), 10)
        first, second, pause = (next(found) for _ in range(3))
        assert taken == ["a", "b", None] and pause is None
        assert [(x, y.result()) for x, y in (first, second)] == [("a", "A"), ("b", "B")]
        assert [x for x, _ in found] == ["c"]
