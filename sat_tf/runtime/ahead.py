"""Work done in threads, ahead of whoever asks for it."""

import collections
import contextlib
import queue
import threading


def ahead(items, size=1):
    """Yields the items of an iterator that a thread runs up to `size` items ahead.

    What the iterator raises is raised here, after the items that came before it. When
    nobody asks for more, the iterator is closed and its thread has ended.
    """
    done, room, stopped = queue.SimpleQueue(), threading.Semaphore(size), False

    def run():
        error = None
        try:
            with contextlib.closing(items):
                while room.acquire() and not stopped:
                    done.put((next(items), None))
        except BaseException as raised:
            error = raised
        done.put((None, error or StopIteration()))

    items = _generator(items)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            item, error = done.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        stopped = True
        room.release()
        thread.join()


def _generator(items):
    yield from items


def in_order(pool, function, items, size):
    """Yields `(item, future of function(item))` in order, up to `size` of them ahead.

    Args:
        pool: a `concurrent.futures.Executor`.
        function: of one item.
        items: any iterable. `None` says that the next item will be long in coming:
            all before it are yielded, and then `None`.
        size: how many may be at work or done and not yet taken.
    """
    waiting = collections.deque()
    for item in items:
        if item is not None:
            waiting.append((item, pool.submit(function, item)))
        while waiting and (item is None or len(waiting) > size):
            yield waiting.popleft()
        if item is None:
            yield None
    yield from waiting
