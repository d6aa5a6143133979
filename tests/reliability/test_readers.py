"""Row 4 of the scorecard, with a small budget: damaged pictures, texts, archives and tables."""

from minigen.faults import readers


def test_damaged_files():
    finding = readers.spoilt_files(60)
    assert finding.passed, finding.text
