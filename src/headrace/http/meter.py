"""What the server tells whoever counts."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Counts requests and logins, and shows the counts. ``ops.metrics`` has one; tests may have another."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request. ``route`` is one of a fixed set: a query's name, or the template of a path; ``method`` is
        what was sent."""
        ...

    def login(self, result: str) -> None:
        """One login by password: right, wrong, too early, or queue full."""
        ...

    def text(self) -> tuple[bytes, str]:
        """All counts, and their media type. May take a moment, and may be called from any thread."""
        ...


class Uncounted:
    """Where nobody counts."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        pass

    def login(self, result: str) -> None:
        pass

    def text(self) -> tuple[bytes, str]:
        return b"", "text/plain"
