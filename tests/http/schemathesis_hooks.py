"""What schemathesis cannot know: only a cursor that a server gave belongs to a question, and a range ends after it begins."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import schemathesis

RANGES = {("start_time", "end_time"): "%Y%m%d%H%M%S", ("start_date", "end_date"): "%Y-%m-%d"}


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    return "cursor" not in (case.query or {})


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """Two times, written as they should be, become the ends of a range of days that there are."""
    for (low, high), pattern in RANGES.items():
        times = [str((query or {}).get(name, "")) for name in (low, high)]
        digits = [re.sub("-", "", text) if pattern == "%Y-%m-%d" else text for text in times]
        if all(re.fullmatch(r"\d{8}(\d{6})?", text) for text in digits) and len(digits[0]) == len(digits[1]):
            year, month, day = int(digits[0][:4]), int(digits[0][4:6]), int(digits[0][6:8])
            if 1 <= month <= 12 and 1 <= day <= 31:
                begins = datetime(min(max(year, 1000), 9000), month, min(day, 28))
                ends = begins + timedelta(days=int(digits[1][-2:]) % 31)
                query = {**query, low: begins.strftime(pattern), high: ends.strftime(pattern)}
    return query
