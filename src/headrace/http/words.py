"""Names, numbers and times as people read them."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from headrace.http.table_csv import cell_text
from headrace.model.types import Type

SPELLED = {"id": "ID", "usd": "USD", "eur": "EUR", "api": "API", "sla": "SLA", "csat": "CSAT", "fx": "FX", "nps": "NPS", "cpu": "CPU", "gb": "GB",
           "kg": "kg", "url": "URL", "utc": "UTC", "genai": "GenAI", "p95": "p95", "p99": "p99"}  # fmt: skip


def label(name: str) -> str:
    """``cost_usd`` as ``Cost USD``."""
    words = [SPELLED.get(word, word) for word in name.split("_") if word]
    text = " ".join(words) or name
    return text[:1].upper() + text[1:]


def number(value: Any, places: int | None = None) -> str:
    """A number with thousands apart; ``places`` rounds to at most so many decimals."""
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if not exact.is_finite():
        return str(value)
    if places is not None and -int(exact.as_tuple().exponent) > places:
        exact = round(exact, places)
    return f"{exact:,f}"


def cell(value: Any, type: Type) -> str:
    """A value of an answer as shown in a table."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash is what a gap looks like
    if type.is_number:
        return number(value, 6 if type.name == "DOUBLE" else None)
    if type.is_instant:
        return time(str(value))
    if type.name == "BOOLEAN":
        return "yes" if value else "no"
    return cell_text(value)


def time(text: str) -> str:
    """``2025-08-31T23:58:00Z`` as ``31 Aug 2025, 23:58 UTC``."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    day = f"{moment.day} {moment:%b %Y}"
    return day if (moment.hour, moment.minute, moment.second) == (0, 0, 0) else f"{day}, {moment:%H:%M} UTC"


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "page"
