"""Column types of contracts, parts and answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

INTEGERS = {"SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
NAMES = ("VARCHAR", "BOOLEAN", *INTEGERS, "DECIMAL(p,s)", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ")
_ALIASES = {
    "TEXT": "VARCHAR", "STRING": "VARCHAR", "BOOL": "BOOLEAN", "INT": "INTEGER", "FLOAT8": "DOUBLE",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ", "HUGEINT": "DECIMAL(38,0)", "TINYINT": "SMALLINT",
    "UBIGINT": "DECIMAL(20,0)", "UINTEGER": "BIGINT", "USMALLINT": "INTEGER", "UTINYINT": "SMALLINT",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Type:
    """A SQL type; ``precision`` and ``scale`` are set for DECIMAL, ``item`` for lists."""

    name: str
    precision: int = 0
    scale: int = 0
    item: Type | None = None

    def __str__(self) -> str:
        if self.item is not None:
            return f"{self.item}[]"
        return f"DECIMAL({self.precision},{self.scale})" if self.name == "DECIMAL" else self.name

    @property
    def is_exact(self) -> bool:
        """Integers and decimals: their sums do not depend on order."""
        return self.name in INTEGERS or self.name == "DECIMAL"

    @property
    def is_number(self) -> bool:
        return self.is_exact or self.name == "DOUBLE"

    @property
    def is_instant(self) -> bool:
        return self.name in ("TIMESTAMP", "TIMESTAMPTZ")


def parse_type(text: str) -> Type | None:
    """The type that a SQL text names, or None where Headrace has no such type."""
    word = " ".join(text.upper().split())
    if word.endswith("[]"):
        item = parse_type(word[:-2])
        return Type("LIST", item=item) if item else None
    word = _ALIASES.get(word, word)
    found = re.fullmatch(r"(?:DECIMAL|NUMERIC)(?:\((\d+)(?:\s*,\s*(\d+))?\))?", word)
    if found:
        precision, scale = int(found[1] or 18), int(found[2] or (0 if found[1] else 3))
        return Type("DECIMAL", precision, scale) if 0 < precision <= 38 and scale <= precision else None
    return Type(word) if word in NAMES else None


@dataclass(frozen=True, slots=True)
class Column:
    """A named, typed column; ``nullable`` is what the contract or the SQL promises."""

    name: str
    type: Type
    nullable: bool = True
