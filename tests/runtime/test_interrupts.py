"""Who sees to Ctrl-C: we, a shell that has it ignored, or a program around us."""

import os
import signal
import threading

import pytest

from sat_tf.cli import caption
from sat_tf.engines import running
from sat_tf.runtime import interrupts


@pytest.fixture
def handled(request):
    """Ctrl-C is handled as the parameter says."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


BY_OTHERS = [signal.SIG_IGN, lambda *_: None]


@pytest.mark.parametrize("handled", [signal.default_int_handler], indirect=True)
@pytest.mark.parametrize("block", [caption._uninterrupted, running._interruptible])
def test_ctrl_c_stops_what_is_ours(block, handled):
    assert interrupts.are_ours()
    with pytest.raises(KeyboardInterrupt), block():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handled


@pytest.mark.parametrize("handled", BY_OTHERS, indirect=True)
@pytest.mark.parametrize("block", [caption._uninterrupted, running._interruptible])
def test_what_others_see_to_is_left_to_them(block, handled):
    assert not interrupts.are_ours()
    with block():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is handled


@pytest.mark.parametrize("block", [caption._uninterrupted, running._interruptible])
def test_other_threads_may_not_say(block):
    found = []

    def work():
        with block():
            found.append(interrupts.are_ours())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
