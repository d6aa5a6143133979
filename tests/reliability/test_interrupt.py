"""Row 8 of the scorecard, with a small budget: Ctrl-C at a random moment."""

from minigen.faults import interrupt


def test_ctrl_c():
    finding = interrupt.interrupts(2)
    assert finding.passed, finding.text
