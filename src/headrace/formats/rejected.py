"""The refusal of a whole file."""

from __future__ import annotations

from headrace.errors import ContractError


class Rejected(ContractError):
    """A file does not fit its contract as a whole.

    ``reason`` is one text for all files that are refused for the same thing; ``what`` names the file and the detail.
    """

    def __init__(self, reason: str, what: str, *, help: str = "") -> None:
        super().__init__("HR0301", what, help=help)
        self.reason = reason
