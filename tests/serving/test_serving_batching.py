"""The batcher by itself: who runs with whom, and who is told of a failure."""

import asyncio
import threading
import time

import numpy as np
import pytest

from sat_tf.serving.batching import Batcher


class Double:
    """Doubles `x`; notes its batches; the first one waits until it is let go."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()

    def __call__(self, inputs):
        self.go.wait(5)
        self.batches.append(inputs["x"].tolist())
        if 13 in inputs["x"]:
            raise ValueError("unlucky")
        return {"y": 2 * inputs["x"]}


def run(max_rows, *calls, joins=True):
    """Call a batcher with all of `calls` at once: (results, batches)."""
    function = Double()

    async def all_at_once():
        batcher = Batcher(function, max_rows, "test", joins=joins)
        tasks = [asyncio.create_task(batcher({"x": np.array(call)})) for call in calls]
        await asyncio.sleep(0.05)  # the first one runs, the others wait
        function.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return results

    results = asyncio.run(all_at_once())
    answers = [
        result if isinstance(result, Exception) else result["y"].tolist()
        for result in results
    ]
    return answers, function.batches


def test_those_who_wait_run_together_and_get_their_own_rows():
    answers, batches = run(32, [1], [2, 3], [4], [5])
    assert answers == [[2], [4, 6], [8], [10]]
    assert sorted(sum(batches, [])) == [1, 2, 3, 4, 5]
    assert len(batches) < 4 and [2, 3] not in batches


def test_a_batch_has_at_most_so_many_rows_and_no_call_is_torn():
    answers, batches = run(3, [1, 2], [3, 4], [5], [6, 7, 8, 9])
    assert answers == [[2, 4], [6, 8], [10], [12, 14, 16, 18]]
    assert all(len(batch) <= 3 or batch == [6, 7, 8, 9] for batch in batches)


def test_where_nobody_may_join_every_call_runs_alone():
    answers, batches = run(32, [1, 2], [3], [4], joins=False)
    assert answers == [[2, 4], [6], [8]]
    assert batches == [[1, 2], [3], [4]]


@pytest.mark.parametrize("place", range(4))
def test_only_the_call_that_fails_is_told(place):
    calls = [[1], [2], [3], [4]]
    calls[place] = [13]
    answers, _ = run(32, *calls)
    assert str(answers.pop(place)) == "unlucky"
    calls.pop(place)
    assert answers == [[2 * call[0]] for call in calls]


def test_a_caller_who_left_does_not_stop_the_others():
    async def leave():
        function = Double()
        batcher = Batcher(function, 32, "test")
        first, second, third = (
            asyncio.create_task(batcher({"x": np.array([n])})) for n in (1, 2, 3)
        )
        await asyncio.sleep(0.05)
        second.cancel()
        function.go.set()
        assert (await first)["y"].tolist() == [2]
        assert (await third)["y"].tolist() == [6]
        assert second.cancelled()

    asyncio.run(leave())


def test_outputs_without_a_row_per_input_are_never_split():
    def total(inputs):
        return {"y": inputs["x"].sum(keepdims=True)}

    async def both():
        batcher = Batcher(total, 32, "test")
        calls = [np.array([1, 2]), np.array([3]), np.array([4, 5])]
        return await asyncio.gather(*(batcher({"x": call}) for call in calls))

    assert [result["y"].tolist() for result in asyncio.run(both())] == [[3], [3], [9]]


class Meeting:
    """Doubles `x` once so many batches are inside at the same time."""

    def __init__(self, number):
        self.barrier = threading.Barrier(number, timeout=5)
        self.batches = []

    def __call__(self, inputs):
        self.batches.append(inputs["x"].tolist())
        self.barrier.wait()
        return {"y": 2 * inputs["x"]}


def together(function, at_once, *calls, max_rows=32, joins=True, cuts=True):
    """Call a batcher with all of `calls` at once: their answers."""

    async def all_at_once():
        options = {"at_once": at_once, "joins": joins, "cuts": cuts}
        batcher = Batcher(function, max_rows, "test", **options)
        calls_of = (batcher({"x": np.array(call)}) for call in calls)
        return await asyncio.gather(*calls_of, return_exceptions=True)

    results = asyncio.run(all_at_once())
    return [r if isinstance(r, Exception) else r["y"].tolist() for r in results]


@pytest.mark.parametrize("at_once", [2, 3])
def test_those_who_come_together_are_shared_between_the_cores(at_once):
    function = Meeting(at_once)
    answers = together(function, at_once, *([n] for n in range(6)))
    assert answers == [[2 * n] for n in range(6)]
    assert {len(batch) for batch in function.batches} == {6 // at_once}


@pytest.mark.parametrize(("rows", "sizes"), [(6, [3, 3]), (5, [2, 3]), (4, [2, 2])])
def test_a_call_of_several_rows_is_shared_too(rows, sizes):
    function = Meeting(2)
    (answer,) = together(function, 2, list(range(rows)))
    assert answer == [2 * n for n in range(rows)]
    assert sorted(len(batch) for batch in function.batches) == sizes


def test_parts_of_a_large_call_fit_beside_each_other():
    function = Meeting(2)
    (answer,) = together(function, 2, list(range(60)), max_rows=32)
    assert answer == [2 * n for n in range(60)]
    assert {len(batch) for batch in function.batches} == {15}


def test_a_batch_takes_its_share_of_those_that_run_as_well():
    sizes, go = [], threading.Semaphore(0)

    def waits(inputs):
        sizes.append(len(inputs["x"]))
        go.acquire(timeout=5)
        return {"y": 2 * inputs["x"]}

    async def one_then_many():
        batcher = Batcher(waits, 32, "test", at_once=2)

        async def call(number, running):
            calls = (batcher({"x": np.array([n])}) for n in range(number))
            tasks = [asyncio.create_task(each) for each in calls]
            while len(sizes) < running:
                await asyncio.sleep(0.01)
            return tasks

        tasks = await call(2, running=2)  # one on each core
        tasks += await call(11, running=2)
        go.release()  # one of them ends: 11 wait, and 1 runs
        tasks += await call(0, running=3)
        go.release(10)
        await asyncio.gather(*tasks)

    asyncio.run(one_then_many())
    assert sizes[:3] == [1, 1, 6]
    assert sum(sizes) == 13


def test_all_batches_together_have_at_most_so_many_rows():
    inside, most, lock = [0], [0], threading.Lock()

    def counted(inputs):
        with lock:
            inside[0] += len(inputs["x"])
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= len(inputs["x"])
        return {"y": 2 * inputs["x"]}

    calls = [[1], [2, 3], [4, 5, 6], [7, 8], [9], [10, 11, 12, 13], [14, 15]]
    answers = together(counted, 3, *calls, max_rows=4)
    assert answers == [[2 * n for n in call] for call in calls]
    assert most[0] <= 4


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("place", range(3))
def test_only_the_call_that_fails_is_told_however_many_run(at_once, place):
    calls = [[1, 2], [3], [4, 5, 6]]
    calls[place] = [*calls[place][1:], 13]
    function = Double()
    function.go.set()
    answers = together(function, at_once, *calls)
    assert str(answers.pop(place)) == "unlucky"
    calls.pop(place)
    assert answers == [[2 * n for n in call] for call in calls]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_outputs_without_a_row_per_input_are_of_the_whole_call(at_once):
    def total(inputs):
        return {"y": inputs["x"].sum(keepdims=True)}

    answers = together(total, at_once, [1, 2], [3], [4, 5, 6, 7])
    assert answers == [[3], [3], [22]]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_rows_as_long_as_the_longest_of_a_call_are_of_the_whole_call(at_once):
    def counted(inputs):
        return {"y": np.arange(inputs["x"].max()) < inputs["x"][:, np.newaxis]}

    (answer,) = together(counted, at_once, [1, 2, 3, 4, 5, 6], cuts=False)
    assert [sum(row) for row in answer] == [1, 2, 3, 4, 5, 6]
    assert {len(row) for row in answer} == {6}


@pytest.mark.parametrize(("call", "joins"), [([1, 2, 3, 4], False), ([1, 2, 3], True)])
def test_no_call_is_cut_where_nobody_may_join_it_nor_into_single_rows(call, joins):
    function = Meeting(2)
    answers = together(function, 2, call, [5], joins=joins)
    assert answers == [[2 * n for n in call], [10]]
    assert sorted(function.batches) == [call, [5]]
