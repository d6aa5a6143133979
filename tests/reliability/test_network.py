"""Row 11 of the scorecard: nothing needs a network. (That no test does is seen to by tests/conftest.py.)"""

import socket

import pytest

from minigen.faults import network


def test_training_and_downloads_without_a_network():
    finding = network.no_connection()
    assert finding.passed, finding.text


def test_the_suite_is_guarded():
    with socket.socket() as one, pytest.raises(AssertionError, match="tests run without a network"):
        one.connect(("192.0.2.1", 80))
