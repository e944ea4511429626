"""Forty-eight channels at their defaults: not one gray, nearly all above the peer's and every photograph's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.quality import TABLE, channels, inception, summary


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_channels_are_as_good_as_lucents_and_better_than_photographs(shared_data: Path) -> None:
    told = json.loads((shared_data / "lucent_inception_v1.json").read_text(encoding="utf-8"))["channels"]
    rows, _ = channels(inception(), told)
    found = summary(rows)
    TABLE.write_text(json.dumps({**found, "each": rows}, indent=1) + "\n", encoding="utf-8")
    assert found["channels"] == 48
    assert found["gray"] == 0
    assert found["at_least_lucent"] >= 44
    assert found["above_all_photographs"] >= 44


def test_the_table_that_is_committed_holds_what_is_asked() -> None:
    """The figures of the slow tier, as they were last measured."""
    told = json.loads(TABLE.read_text(encoding="utf-8"))
    assert summary(told["each"]) == {name: told[name] for name in summary(told["each"])}
    assert told["channels"] == 48
    assert min(told["at_least_lucent"], told["above_all_photographs"]) >= 44
    assert told["gray"] == 0
