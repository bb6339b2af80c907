"""What schemathesis cannot know: only a cursor that a server gave belongs to a question."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    return "cursor" not in (case.query or {})
