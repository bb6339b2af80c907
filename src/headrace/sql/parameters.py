"""From the texts that a caller sends to the stored values of a query's parameters."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Mapping
from typing import Any

from headrace.errors import ParameterError, nearest
from headrace.model.serving import Parameter
from headrace.sql.arithmetic import zone_names
from headrace.sql.evaluate import near_zone
from headrace.sql.query import Query


def parameters_of(query: Query, given: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values of a query's parameters from their texts; raises ParameterError HR0502 naming the first that is wrong."""
    names = [p.name for p in query.parameters]
    for name in given:
        if name not in names:
            raise ParameterError(
                "HR0502",
                f"query '{query.name}' has no parameter '{name}'",
                parameter=name,
                help=nearest(name, names) if names else "it has none",
            )
    values: dict[str, Any] = {"now": int(time.time() * 1_000_000)}
    for parameter in query.parameters:
        text = given.get(parameter.name)
        if text is None or text == "" or text == []:
            if parameter.required:
                raise ParameterError(
                    "HR0502",
                    f"parameter '{parameter.name}' is missing",
                    parameter=parameter.name,
                    help=f"{parameter.name}={example(parameter)}",
                )
            values[parameter.name] = parameter.default
        elif parameter.many:
            items = text if isinstance(text, list) else str(text).split(",")
            values[parameter.name] = list(dict.fromkeys(value_of(parameter, item) for item in items))
        else:
            if isinstance(text, list):
                raise ParameterError(
                    "HR0502",
                    f"parameter '{parameter.name}' is given twice",
                    parameter=parameter.name,
                    help="give it once",
                )
            values[parameter.name] = value_of(parameter, str(text))
    for sql, holds in query.validations:
        if holds(values) is False:
            raise ParameterError("HR0502", f"the parameters do not satisfy: {sql}", parameter=next(iter(names), ""))
    return values


def value_of(parameter: Parameter, text: str) -> Any:
    """The stored value that a text gives a parameter; raises ParameterError HR0502."""
    kind = parameter.type
    try:
        if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
            raise ValueError("not text")
        if kind.name == "DATE":
            if len(text) != 10:
                raise ValueError(text)
            return dt.date.fromisoformat(text).isoformat()
        if kind.is_instant:
            moment = dt.datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        if kind.name == "BOOLEAN":
            return {"true": 1, "false": 0}[text.lower()]
        if kind.name == "DOUBLE":
            return float(text)
        if kind.name == "DECIMAL":
            found = re.fullmatch(r"(-?\d+)(?:\.(\d+))?", text, re.ASCII)
            if found is None or len(text) > 40 or len((found[2] or "").rstrip("0")) > kind.scale:
                raise ValueError(text)
            digits = (found[2] or "")[: kind.scale].ljust(kind.scale, "0")
            return f"{int(found[1])}.{digits}" if kind.scale else str(int(found[1]))
        if kind.is_exact:
            if not text.lstrip("-").isdigit() or not text.isascii() or len(text) > 19:
                raise ValueError(text)
            number = int(text)
            if not -(2**63) <= number < 2**63 or (
                parameter.maximum is not None and not 1 <= number <= parameter.maximum
            ):
                raise ValueError(text)
            return number
        if parameter.zone and text not in zone_names():
            raise ValueError(text)
    except (ValueError, KeyError, OverflowError):
        wanted = (
            f"a whole number from 1 to {parameter.maximum}" if parameter.maximum else f"{kind}, as {example(parameter)}"
        )
        if parameter.zone:
            wanted = near_zone(text)
        raise ParameterError(
            "HR0502", f"parameter '{parameter.name}' is '{text[:80]}'", parameter=parameter.name, help=wanted
        ) from None
    return text


def example(parameter: Parameter) -> str:
    """A value that the parameter could have."""
    if parameter.default is not None:
        return str(parameter.default)
    if parameter.zone:
        return "Europe/Berlin"
    return {"DATE": "2025-08-01", "TIMESTAMP": "2025-08-01T00:00:00Z", "TIMESTAMPTZ": "2025-08-01T00:00:00Z", "BOOLEAN": "true",
            "VARCHAR": f"<{parameter.name}>"}.get(parameter.type.name, "1")  # fmt: skip
