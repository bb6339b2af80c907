"""Scalar SQL to Python source: the small evaluator that finishes answers exactly.

Values are stored values (see ``model.serving``). Exact numbers are integers at a static scale, quotients are fractions,
and rounding happens once, half away from zero: at the outermost ``round(x, n)``, else to PLACES. NULL is None.
The helpers that the source calls stand in ``sql.arithmetic``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from headrace.errors import DeclarationError, nearest
from headrace.model.types import INTEGERS, Type, parse_type
from headrace.sql.arithmetic import decimal_text, zone_names
from headrace.sql.dialect import Text, function_name, is_aggregate, render

EXACT = "EXACT"
"""Type name of an int that stands for itself divided by 10**scale."""
RATIO = "RATIO"
"""Type name of a Fraction."""
NULL = Type("NULL")
PLACES = 6
"""Decimal places of a quotient that no round() was asked for."""
MICROSECONDS = {"MICROSECOND": 1, "MILLISECOND": 1000, "SECOND": 10**6, "MINUTE": 60 * 10**6, "HOUR": 3600 * 10**6,
                "DAY": 86400 * 10**6, "WEEK": 7 * 86400 * 10**6}  # fmt: skip
_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "add", exp.Sub: "sub", exp.Mul: "mul"}
_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "eq",
    exp.NEQ: "ne",
    exp.LT: "lt",
    exp.LTE: "le",
    exp.GT: "gt",
    exp.GTE: "ge",
}


class Code:
    """A Python expression and the type of its value. ``text``, where it is known, gives an exact number's decimal text
    without the way through the number."""

    __slots__ = ("source", "text", "type")

    def __init__(self, source: str, type: Type, text: str = "") -> None:
        self.source = source
        self.type = type
        self.text = text

    @property
    def number(self) -> Code | None:
        """The same as an exact number, a ratio or a double; None where it is no number."""
        if self.type.name == "DECIMAL":
            return Code(f"exact({self.source})", Type(EXACT, scale=self.type.scale), self.source)
        if self.type.name in INTEGERS or self.type == NULL:
            return Code(self.source, Type(EXACT))
        return self if self.type.name in (EXACT, RATIO, "DOUBLE") else None

    def at_scale(self, scale: int) -> str:
        up = scale - self.type.scale
        if up and self.source.isdigit():
            return str(int(self.source) * 10**up)
        return f"mul({self.source}, {10**up})" if up else self.source

    def text_at(self, scale: int) -> str:
        if self.source.isdigit():
            return repr(decimal_text(int(self.at_scale(scale)), scale)) if scale else ""
        return self.text if self.type.scale == scale else ""

    @property
    def ratio(self) -> str:
        if self.type.name == "DOUBLE":
            return f"fraction({self.source})"
        return self.source if self.type.name == RATIO else f"ratio({self.source}, {10**self.type.scale})"

    @property
    def double(self) -> str:
        if self.type.name == "DOUBLE":
            return self.source
        return f"double({self.ratio})"


def stored_code(source: str, type: Type) -> Code:
    """The code of a stored value: booleans are stored as 0 and 1."""
    return Code(f"truth({source})" if type.name == "BOOLEAN" else source, type)


class Evaluator:
    """Compiles the scalar expressions of one file.

    ``column`` and ``parameter`` give the code of a column and of ``$name``; ``aggregate``, where set, of an aggregate.
    """

    def __init__(
        self,
        text: Text,
        column: Callable[[exp.Column], Code],
        parameter: Callable[[exp.Expr, str], Code],
        aggregate: Callable[[exp.Expr], Code] | None = None,
    ) -> None:
        self.text = text
        self.column = column
        self.parameter = parameter
        self.aggregate = aggregate

    def compile(self, node: exp.Expr) -> Code:
        """The code of any expression; raises DeclarationError where it cannot be computed when answering."""
        if self.aggregate is not None and is_aggregate(node):
            return self.aggregate(node)
        if type(node) in _ARITHMETIC:
            return self._arithmetic(node)
        if type(node) in _COMPARISONS:
            left, right = self._alike(node, [node.this, node.expression])[0]
            return Code(f"{_COMPARISONS[type(node)]}({left}, {right})", Type("BOOLEAN"))
        method = getattr(self, "_" + (function_name(node) or type(node).__name__).lower(), None)
        if method is None:
            raise self.refuse(node)
        code: Code = method(node)
        return code

    def refuse(self, node: exp.Expr, why: str = "") -> DeclarationError:
        return DeclarationError("HR0202", f"{render(node)} cannot be computed when answering", place=self.text.at(node),
                                help=why or "compute it in the mart or in silver/*.sql")  # fmt: skip

    def number(self, node: exp.Expr) -> Code:
        code = self.compile(node).number
        if code is None:
            raise self.refuse(node, "a number is needed here")
        return code

    # Leaves

    def _column(self, node: exp.Column) -> Code:
        return self.column(node)

    def _placeholder(self, node: exp.Placeholder) -> Code:
        return self.parameter(node, str(node.this))

    def _parameter(self, node: exp.Parameter) -> Code:
        return self.parameter(node, str(node.this.name if isinstance(node.this, exp.Expr) else node.this))

    def _literal(self, node: exp.Literal) -> Code:
        if node.is_string:
            return Code(repr(str(node.this)), Type("VARCHAR"))
        whole, _, fraction = str(node.this).partition(".")
        if "e" in str(node.this).lower():
            raise self.refuse(node, "write the number without an exponent")
        return Code(repr(int((whole or "0") + fraction)), Type(EXACT, scale=len(fraction)))

    def _boolean(self, node: exp.Boolean) -> Code:
        return Code(repr(bool(node.this)), Type("BOOLEAN"))

    def _null(self, node: exp.Null) -> Code:
        return Code("None", NULL)

    def _interval(self, node: exp.Interval) -> Code:
        unit = str(node.args["unit"].name if node.args.get("unit") else "").upper().rstrip("S")
        if unit not in MICROSECONDS:
            raise self.refuse(node, "intervals in days or shorter units have one length")
        if not isinstance(node.this, exp.Literal) or not node.this.name.isdecimal():
            raise self.refuse(node, "an interval is a whole number of units; subtract it to go back")
        return Code(str(int(node.this.name) * MICROSECONDS[unit]), Type("INTERVAL"))

    # Logic

    def _paren(self, node: exp.Paren) -> Code:
        return self.compile(node.this)

    def _and(self, node: exp.And) -> Code:
        return Code(f"both({self.compile(node.this).source}, {self.compile(node.expression).source})", Type("BOOLEAN"))

    def _or(self, node: exp.Or) -> Code:
        return Code(
            f"either({self.compile(node.this).source}, {self.compile(node.expression).source})", Type("BOOLEAN")
        )

    def _not(self, node: exp.Not) -> Code:
        return Code(f"negate({self.compile(node.this).source})", Type("BOOLEAN"))

    def _is(self, node: exp.Is) -> Code:
        if isinstance(node.expression, exp.Null):
            return Code(f"({self.compile(node.this).source} is None)", Type("BOOLEAN"))
        return Code(f"({self.compile(node.this).source} == {self.compile(node.expression).source})", Type("BOOLEAN"))

    def _in(self, node: exp.In) -> Code:
        if node.args.get("field") is not None:
            return Code(
                f"within({self.compile(node.this).source}, {self.compile(node.args['field']).source})", Type("BOOLEAN")
            )
        pairs = self._alike(node, [node.this, *node.expressions])
        source = f"eq({pairs[0][0]}, {pairs[0][1]})"
        for left, right in pairs[1:]:
            source = f"either({source}, eq({left}, {right}))"
        return Code(source, Type("BOOLEAN"))

    def _between(self, node: exp.Between) -> Code:
        (value, low), (again, high) = self._alike(node, [node.this, node.args["low"], node.args["high"]])
        return Code(f"both(ge({value}, {low}), le({again}, {high}))", Type("BOOLEAN"))

    def _case(self, node: exp.Case) -> Code:
        branches = [(i.this, i.args["true"]) for i in node.args["ifs"]]
        default = node.args.get("default") or exp.Null()
        results = self._same([b for _, b in branches] + [default])
        source = results[-1].source
        for (condition, _), result in reversed(list(zip(branches, results, strict=False))):
            test = exp.EQ(this=node.this.copy(), expression=condition.copy()) if node.this is not None else condition
            source = f"({result.source} if {self.compile(test).source} else {source})"
        return Code(source, results[0].type)

    def _coalesce(self, node: exp.Coalesce) -> Code:
        codes = self._same([node.this, *node.expressions])
        texts = [c.text for c in codes]
        text = _first(texts) if all(texts) else ""
        return Code(_first([c.source for c in codes]), codes[0].type, text)

    def _nullif(self, node: exp.Nullif) -> Code:
        value = self.compile(node.this)
        left, right = self._alike(node, [node.this, node.expression])[0]
        return Code(f"(None if eq({left}, {right}) else {value.source})", value.type)

    def _greatest(self, node: exp.Greatest) -> Code:
        codes = self._same([node.this, *node.expressions])
        return Code(f"greatest({', '.join(c.source for c in codes)})", codes[0].type)

    def _least(self, node: exp.Least) -> Code:
        codes = self._same([node.this, *node.expressions])
        return Code(f"least({', '.join(c.source for c in codes)})", codes[0].type)

    # Numbers

    def _arithmetic(self, node: exp.Expr) -> Code:
        name = _ARITHMETIC[type(node)]
        left, right = self.compile(node.this), self.compile(node.expression)
        if left.type.name == "DATE" or left.type.is_instant:
            return self._time(node, left, right)
        a, b = self.number(node.this), self.number(node.expression)
        if "DOUBLE" in (a.type.name, b.type.name):
            return Code(f"{name}({a.double}, {b.double})", Type("DOUBLE"))
        if RATIO in (a.type.name, b.type.name):
            return Code(f"{name}({a.ratio}, {b.ratio})", Type(RATIO))
        if isinstance(node, exp.Mul):
            return Code(f"mul({a.source}, {b.source})", Type(EXACT, scale=a.type.scale + b.type.scale))
        scale = max(a.type.scale, b.type.scale)
        return Code(f"{name}({a.at_scale(scale)}, {b.at_scale(scale)})", Type(EXACT, scale=scale))

    def _time(self, node: exp.Expr, left: Code, right: Code) -> Code:
        sign = "-" if isinstance(node, exp.Sub) else ""
        if sign and left.type.name == right.type.name == "DATE":
            return Code(f"days({left.source}, {right.source})", Type("BIGINT"))
        if left.type.name == "DATE" and right.number is not None:
            return Code(f"plus_days({left.source}, mul({right.source}, {sign}1))", Type("DATE"))
        if right.type.name == "INTERVAL" and not isinstance(node, exp.Mul):
            if left.type.is_instant:
                return Code(f"add({left.source}, {sign}{right.source})", left.type)
            days, rest = divmod(int(right.source), MICROSECONDS["DAY"])
            if rest:
                raise self.refuse(node, "a date has no hours; cast it to TIMESTAMP")
            return Code(f"plus_days({left.source}, {sign}{days})", Type("DATE"))
        raise self.refuse(node, "a date takes whole days, a timestamp takes an INTERVAL")

    def _div(self, node: exp.Div) -> Code:
        a, b = self.number(node.this), self.number(node.expression)
        if "DOUBLE" in (a.type.name, b.type.name):
            return Code(f"div({a.double}, {b.double})", Type("DOUBLE"))
        if RATIO in (a.type.name, b.type.name):
            return Code(f"div({a.ratio}, {b.ratio})", Type(RATIO))
        scale = max(a.type.scale, b.type.scale)
        return Code(f"quotient({a.at_scale(scale)}, {b.at_scale(scale)})", Type(RATIO))

    def _neg(self, node: exp.Neg) -> Code:
        code = self.number(node.this)
        return Code(f"mul({code.source}, -1)", code.type)

    def _abs(self, node: exp.Abs) -> Code:
        code = self.number(node.this)
        return Code(f"absolute({code.source})", code.type)

    def _round(self, node: exp.Round) -> Code:
        code = self.number(node.this)
        wanted = node.args.get("decimals")
        if wanted is not None and not (isinstance(wanted, exp.Literal) and wanted.is_int):
            raise self.refuse(node, "the number of places is a whole number, 0 or more")
        places = int(wanted.name) if wanted is not None else 0
        return Code(f"half_up({code.ratio}, {places})", Type(EXACT, scale=places))

    def _len(self, node: exp.Expr) -> Code:
        inner = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
        return Code(f"length({self.compile(inner).source})", Type("BIGINT"))

    _length = _len

    # Text

    def _lower(self, node: exp.Lower) -> Code:
        return Code(f"lower({self.compile(node.this).source})", Type("VARCHAR"))

    def _upper(self, node: exp.Upper) -> Code:
        return Code(f"upper({self.compile(node.this).source})", Type("VARCHAR"))

    def _dpipe(self, node: exp.DPipe) -> Code:
        return Code(f"add({self._text(node.this)}, {self._text(node.expression)})", Type("VARCHAR"))

    def _text(self, node: exp.Expr) -> str:
        return f"as_text({finished(self.compile(node)).source})"

    # Time

    def _date_trunc(self, node: exp.Expr) -> Code:
        unit, value = str(node.args["unit"].name).lower(), self.compile(node.this)
        if value.type.name == "DATE" and unit in ("day", "week", "month", "quarter", "year"):
            # The engines make a timestamp of it.
            return Code(f"instant(trunc_date({value.source}, {unit!r}))", Type("TIMESTAMP"))
        if value.type.is_instant and unit.upper() in MICROSECONDS and unit != "week":
            return Code(f"trunc_time({value.source}, {MICROSECONDS[unit.upper()]})", value.type)
        if value.type.is_instant and unit in ("week", "month", "quarter", "year"):
            return Code(f"instant(trunc_date(date_of({value.source}), {unit!r}))", value.type)
        raise self.refuse(node, "date_trunc takes minute, hour, day, week, month, quarter or year")

    def _extract(self, node: exp.Extract) -> Code:
        unit, value = str(node.this.name).lower(), self.compile(node.expression)
        if value.type.name != "DATE" and not value.type.is_instant:
            raise self.refuse(node, "extract reads dates and timestamps")
        source = value.source if value.type.is_instant else f"instant({value.source})"
        if unit not in ("year", "month", "day", "hour", "minute", "second", "isodow"):
            raise self.refuse(node, "extract takes year, month, day, hour, minute, second or isodow")
        return Code(f"field({source}, {unit!r})", Type("BIGINT"))

    def _attimezone(self, node: exp.AtTimeZone) -> Code:
        """A local time, for what has no zone of its own: answers write every time of day as UTC."""
        holder = node.parent
        while isinstance(holder, exp.Paren):
            holder = holder.parent
        if not isinstance(holder, exp.Extract) and not (isinstance(holder, exp.Cast) and holder.is_type("date")):
            raise self.refuse(
                node, "write extract(hour FROM t AT TIME ZONE zone), or CAST(t AT TIME ZONE zone AS DATE)"
            )
        value, zone = self.compile(node.this), node.args["zone"]
        if value.type.name != "TIMESTAMPTZ":
            raise self.refuse(node, f"it is {value.type}; only a TIMESTAMPTZ is a moment that zones have a time for")
        if next(zone.find_all(exp.Column), None) is not None:
            raise self.refuse(node, "the zone is a name or a parameter: coalesce($time_zone, 'UTC')")
        for name in zone.find_all(exp.Literal):
            if name.name not in zone_names():
                raise self.refuse(node, f"no time zone '{name.name}': {near_zone(name.name)}")
        return Code(f"local_time({value.source}, {self.compile(zone).source})", Type("TIMESTAMP"))

    def _cast(self, node: exp.Cast) -> Code:
        value, wanted = self.compile(node.this), parse_type(node.to.sql(dialect="duckdb"))
        if wanted is None:
            raise self.refuse(node)
        if wanted.name == "VARCHAR":
            return Code(f"as_text({finished(value).source})", wanted)
        if wanted == value.type:
            return value
        if wanted.name == "DATE" and value.type.is_instant:
            return Code(f"date_of({value.source})", wanted)
        if wanted.is_instant and value.type.is_instant:
            return Code(value.source, wanted)
        if wanted.is_instant and value.type.name == "DATE":
            return Code(f"instant({value.source})", wanted)
        number = value.number
        if number is not None and wanted.is_exact:
            scale = wanted.scale if wanted.name == "DECIMAL" else 0
            return Code(f"half_up({number.ratio}, {scale})", Type(EXACT, scale=scale))
        if number is not None and wanted.name == "DOUBLE":
            return Code(number.double, wanted)
        raise self.refuse(node)

    # Types

    def _alike(self, node: exp.Expr, values: list[exp.Expr]) -> list[tuple[str, str]]:
        """The first value paired with each other one, as sources that Python can compare."""
        codes = [self.compile(v) for v in values]
        return [self._comparable(node, codes[0], other) for other in codes[1:]]

    def _comparable(self, node: exp.Expr, left: Code, right: Code) -> tuple[str, str]:
        a, b = left.number, right.number
        if a is not None and b is not None:
            if "DOUBLE" in (a.type.name, b.type.name):
                return a.double, b.double
            if RATIO in (a.type.name, b.type.name):
                return a.ratio, b.ratio
            scale = max(a.type.scale, b.type.scale)
            return a.at_scale(scale), b.at_scale(scale)
        kinds = {left.type.name, right.type.name}
        if left.type.is_instant and right.type.name == "DATE":
            return left.source, f"instant({right.source})"
        if right.type.is_instant and left.type.name == "DATE":
            return f"instant({left.source})", right.source
        if (
            len(kinds) > 1
            and "NULL" not in kinds
            and kinds != {"VARCHAR", "DATE"}
            and not kinds <= {"TIMESTAMP", "TIMESTAMPTZ"}
        ):
            raise self.refuse(node, f"it compares {left.type} with {right.type}")
        return left.source, right.source

    def _same(self, values: list[exp.Expr]) -> list[Code]:
        """The values as codes of one type."""
        codes = [self.compile(v) for v in values]
        kinds = {c.type.name for c in codes} - {"NULL"}
        if len(kinds) <= 1 and not kinds & {EXACT, "DECIMAL"}:
            kind = next((c.type for c in codes if c.type != NULL), NULL)
            return [Code(c.source, kind) for c in codes]
        numbers = [c.number for c in codes]
        if any(n is None for n in numbers):
            raise self.refuse(values[0].parent or values[0], "all branches must have one type")
        known = [n for n in numbers if n is not None]
        if any(n.type.name == "DOUBLE" for n in known):
            return [Code(n.double, Type("DOUBLE")) for n in known]
        if any(n.type.name == RATIO for n in known):
            return [Code(n.ratio, Type(RATIO)) for n in known]
        scale = max(n.type.scale for n in known)
        return [Code(n.at_scale(scale), Type(EXACT, scale=scale), n.text_at(scale)) for n in known]


def _first(sources: list[str]) -> str:
    """The first value that is not None. Values that cost nothing to look at twice need no call."""
    *others, source = sources
    if not all(re.fullmatch(r"[a-z]\w*(\[('\w+'|\d+)\])?", other) for other in others):
        return f"coalesce({', '.join(sources)})"
    for other in reversed(others):
        source = f"({other} if {other} is not None else {source})"
    return source


def near_zone(name: str) -> str:
    """What to write instead of an unknown time zone: there are too many to name them all."""
    found = nearest(name, zone_names())
    return found if found.startswith("did") else "a name of the tz database, as Europe/Berlin, or UTC"


def finished(code: Code) -> Code:
    """The value as it is answered: quotients rounded to PLACES, exact numbers as text at their scale, times as RFC 3339."""
    if code.type.name == RATIO:
        code = Code(f"half_up({code.source}, {PLACES})", Type(EXACT, scale=PLACES))
    if code.type.name == EXACT:
        if code.type.scale == 0:
            return Code(code.source, Type("BIGINT"))
        return Code(
            code.text or f"decimal_text({code.source}, {code.type.scale})", Type("DECIMAL", 38, code.type.scale)
        )
    if code.type.is_instant:
        return Code(f"rfc3339({code.source})", code.type)
    return Code(code.source, Type("VARCHAR")) if code.type == NULL else code
