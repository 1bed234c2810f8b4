"""Reading batch sizes from a page of metrics."""

import math

from bettong._demo.batches import BatchTotals, totals_in

PAGE = """\
# HELP bettong_batch_rows Rows of each batch that ran.
# TYPE bettong_batch_rows histogram
bettong_batch_rows_bucket{pipeline="fraud",version="1",le="8"} 3
bettong_batch_rows_sum{pipeline="fraud",version="1"} 30
bettong_batch_rows_count{pipeline="fraud",version="1"} 4
bettong_batch_rows_sum{pipeline="fraud",version="2"} 12.5
bettong_batch_rows_count{pipeline="fraud",version="2"} 1
bettong_batch_rows_sum{pipeline="fraud2",version="1"} 999
bettong_batch_rows_count{pipeline="fraud2",version="1"} 9
"""


def test_versions_of_a_pipeline_are_added() -> None:
    """All versions count, other pipelines do not."""
    assert BatchTotals(42.5, 5) == totals_in(PAGE, "fraud")


def test_an_unknown_pipeline_has_no_batches() -> None:
    """A page without it is no error."""
    assert BatchTotals(0, 0) == totals_in(PAGE, "other")


def test_the_mean_is_that_of_the_time_between() -> None:
    """Earlier batches do not count; no batch has no mean."""
    assert BatchTotals(100, 10).mean_rows_since(BatchTotals(60, 5)) == 8.0
    assert math.isnan(BatchTotals(100, 10).mean_rows_since(BatchTotals(100, 10)))
