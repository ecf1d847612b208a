"""Threads that may be inside TensorFlow, which no signal and no flag interrupts."""

import atexit
import concurrent.futures
import logging
import os
import sys
import threading


def call(function, *args):
    """Call in a thread of its own, so that a signal reaches the caller meanwhile."""
    outcome = concurrent.futures.Future()

    def run():
        try:
            outcome.set_result(function(*args))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return outcome.result()
    finally:
        leave(thread)


def leave(thread, seconds=0.2):
    """Wait a moment for a daemon thread, then let the process end without it.

    TensorFlow now and then crashes where Python takes a process down around a thread
    inside it. Such a process is not taken down; it just stops.
    """
    thread.join(seconds)
    if thread.is_alive():
        atexit.register(_stop_beside, thread)


def _stop_beside(thread):
    if thread.is_alive():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
