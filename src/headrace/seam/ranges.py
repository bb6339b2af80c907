"""Where the ranges of a lane begin, and where a batch may cut: arithmetic alone, so that those who never talk agree."""

from __future__ import annotations


def start_of(offset: int, origin: int, size: int) -> int:
    """The first offset of the range that an offset lies in. Ranges are ``size`` long and are counted from ``origin``."""
    return origin + (offset - origin) // size * size


def aligned_cut(landed: int, origin: int, size: int, before: int) -> int:
    """Where a batch cuts a lane that is being streamed: at the start of a range, never in its middle, and never below
    the cut ``before`` (Batch run, 2)."""
    return max(before, start_of(max(landed, origin), origin, size))
