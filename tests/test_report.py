"""The benchmark's table, as the documentation has it."""

from __future__ import annotations

from loadtest.report import Metric, Row, as_markdown


def test_markdown_has_medians_and_ratios() -> None:
    """A row tells each system's median and range, and ours as a part of each baseline's."""
    row = Row("case", Metric("cpu", "1→1", "CPU-s/GiB"))
    row.runs = {"fast": [0.9, 0.8, 1.0], "relay": [3.6], "sshd": [3.0]}
    lost = Row("case", Metric("rate", "1→1", "MiB/s"), failed={"fast"})
    titles = {"fast": "ours", "relay": "plain", "sshd": "sshd + fifo"}

    assert as_markdown(titles, [row, lost]).splitlines() == [
        "| case | ours | plain | sshd + fifo | fast / relay | fast / sshd |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1→1, CPU-s/GiB | 0.90 (0.80 to 1.00) | 3.60 | 3.00 | 0.25 | 0.30 |",
        "| 1→1, MiB/s | failed |  |  |  |  |",
    ]
