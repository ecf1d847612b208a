"""The batcher by itself: who runs with whom, and who is told of a failure."""

import asyncio
import threading

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


def run(max_rows, *calls):
    """Call a batcher with all of `calls` at once: (results, batches)."""
    function = Double()

    async def all_at_once():
        batcher = Batcher(function, max_rows, "test")
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


def test_with_room_for_one_every_call_runs_alone():
    answers, batches = run(1, [1, 2], [3], [4])
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
