"""Ctrl-C, where it is for us to say what it does."""

import signal
import threading


def are_ours():
    """Whether Ctrl-C raises `KeyboardInterrupt` here, and so may be put off.

    Only the main thread may change what it does; and where a shell has it ignored, as
    for commands in the background, or a program around us sees to it, it stays so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
