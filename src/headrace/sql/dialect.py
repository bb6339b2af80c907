"""The checked subset of DuckDB's dialect: parsing, places, and what is refused with what to write instead."""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from headrace.errors import DeclarationError, Place

MERGEABLE = {"sum", "count", "min", "max", "avg", "bool_or", "bool_and", "arg_min", "arg_max", "measure"}
WHOLE = {"median", "mad", "mode", "quantile_cont", "quantile_disc", "stddev", "stddev_samp", "stddev_pop",
         "var_samp", "var_pop", "variance", "corr", "string_agg"}  # fmt: skip
SCALARS = {
    "abs", "coalesce", "nullif", "lower", "upper", "trim", "ltrim", "rtrim", "length", "substring", "concat", "replace",
    "round", "floor", "ceil", "greatest", "least", "date_trunc", "time_bucket", "extract", "cast", "try_cast", "case", "if",
    "starts_with", "ends_with", "contains", "split_part", "regexp_matches", "regexp_full_match", "regexp_extract", "md5",
    "json_type", "json_valid", "json_extract", "json_extract_string", "json_array_length", "strftime", "like", "ilike",
    "year", "month", "day", "hour", "minute", "second", "unnest", "list_contains", "from_json", "sign", "left", "right",
    "make_date", "last_day", "array",
}  # fmt: skip
WINDOWS = {"row_number", "rank", "dense_rank", "lag", "lead", "first_value", "last_value"}
HINTS = {
    **dict.fromkeys(
        ("read_csv", "read_parquet", "read_json", "readcsv", "readparquet", "glob", "read_text"),
        "SQL has no files here; read sources, references, datasets and marts only, and declare a source for the file",
    ),
    "now": "a clock makes batch and stream differ; in a query write $now",
    "current_date": "a clock makes batch and stream differ; in a query write CAST($now AS DATE)",
    "current_timestamp": "a clock makes batch and stream differ; in a query write $now",
    "random": "chance makes every run differ; hash an id instead: md5(id)",
    "uuid": "chance makes every run differ; declare the source's id",
    "date_diff": "engines disagree about boundaries; subtract the dates: (b - a)",
    "datediff": "engines disagree about boundaries; subtract the dates: (b - a)",
    "approx_count_distinct": "count(DISTINCT x) is exact and can be merged",
    "approx_quantile": "quantile_cont(x, q) is exact",
    "first": "the first of an unordered set is any; write arg_min(x, t)",
    "last": "the last of an unordered set is any; write arg_max(x, t)",
    "any_value": "any is not one; write min(x) or arg_min(x, t)",
    "list": "a list has no merge; write count(DISTINCT x), or a dataset with one row each",
    "array_agg": "a list has no merge; write count(DISTINCT x), or a dataset with one row each",
    "dayofweek": "engines number days differently; write extract(isodow FROM t)",
    "hash": "each engine has its own; write md5(x)",
    "epoch": "it loses fractions in some engines; subtract timestamps",
}
_SQL_NAMES = {"logicalor": "bool_or", "logicaland": "bool_and", "argmax": "arg_max", "argmin": "arg_min",
              "timestamptrunc": "date_trunc", "datetrunc": "date_trunc", "datebin": "time_bucket", "jsontype": "json_type",
              "startswith": "starts_with", "endswith": "ends_with", "percentilecont": "quantile_cont",
              "percentiledisc": "quantile_disc", "jsonextract": "json_extract", "jsonextractscalar": "json_extract_string",
              "trycast": "try_cast", "arraycontains": "list_contains", "regexpfullmatch": "regexp_full_match",
              "regexplike": "regexp_matches", "regexpextract": "regexp_extract", "splitpart": "split_part",
              "rownumber": "row_number", "denserank": "dense_rank", "firstvalue": "first_value", "lastvalue": "last_value",
              "currentdate": "current_date", "currenttimestamp": "current_timestamp", "datediff": "date_diff",
              "groupconcat": "string_agg", "stddevsamp": "stddev_samp", "stddevpop": "stddev_pop", "anyvalue": "any_value",
              "approxdistinct": "approx_count_distinct", "arrayagg": "list", "ceil": "ceil", "strtodate": "strptime",
              "timetostr": "strftime", "lastday": "last_day", "jsonarraylength": "json_array_length", "md5digest": "md5",
              "datefromparts": "make_date", "explode": "unnest"}  # fmt: skip
_AS_SQL = (
    exp.And, exp.Or, exp.Not, exp.Paren, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between,
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Literal, exp.Boolean, exp.Null, exp.Column,
    exp.Identifier, exp.Star, exp.Alias, exp.Interval, exp.Var, exp.DataType, exp.DataTypeParam, exp.Filter, exp.Where,
    exp.Distinct, exp.Placeholder, exp.Parameter, exp.If, exp.Case, exp.Coalesce, exp.Ordered, exp.Order, exp.Limit,
    exp.Offset, exp.Select, exp.From, exp.Table, exp.TableAlias, exp.Join, exp.Group, exp.Having, exp.Subquery, exp.CTE,
    exp.With, exp.Union, exp.Window, exp.WindowSpec, exp.Tuple, exp.DPipe, exp.NullSafeEQ, exp.NullSafeNEQ, exp.JSONPath,
    exp.JSONPathRoot, exp.JSONPathKey, exp.JSONPathSubscript, exp.JSONPathWildcard, exp.Unnest, exp.ColumnDef, exp.Like,
    exp.ILike, exp.Bracket, exp.Exists,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of SQL and where it stands, so that an error can point into it."""

    sql: str
    place: Place

    def at(self, node: exp.Expr | None) -> Place:
        """The place of a node, or of its first descendant that knows one."""
        for inner in node.walk() if node is not None else ():
            if "start" in inner.meta:
                return self.offset(int(inner.meta["start"]), int(inner.meta["end"]) - int(inner.meta["start"]) + 1)
        return self.place

    def call(self, node: exp.Expr, name: str) -> Place:
        """The place of a function's name: its node may only know where its first argument stands."""
        if "start" in node.meta:
            return self.at(node)
        starts = [int(n.meta["start"]) for n in node.walk() if "start" in n.meta]
        found = self.sql.lower().rfind(name, 0, min(starts) if starts else len(self.sql))
        return self.offset(found, len(name)) if found >= 0 else self.at(node)

    def offset(self, start: int, length: int = 1) -> Place:
        before = self.sql[:start]
        line = before.count("\n")
        column = start - (before.rfind("\n") + 1) + 1
        lines = self.sql.split("\n")
        return Place(
            self.place.file, max(self.place.line, 1) + line, column, lines[line] if line < len(lines) else "", length
        )


def parse_select(text: Text) -> exp.Query:
    """The single SELECT (or UNION ALL of them) in a file; raises DeclarationError with its place."""
    trees = _parse(text)
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise DeclarationError(
            "HR0201", "the file is not one SELECT", place=text.place, help="one file holds one SELECT"
        )
    return trees[0]


def parse_expression(text: Text) -> exp.Expr:
    """One scalar expression, as in a rule."""
    trees = _parse(Text("SELECT " + text.sql, text.place))
    select = trees[0] if len(trees) == 1 else None
    if not isinstance(select, exp.Select) or len(select.expressions) != 1 or select.args.get("from_"):
        raise DeclarationError("HR0201", f"not one SQL expression: {text.sql}", place=text.place)
    found: exp.Expr = select.expressions[0]
    return found


def _parse(text: Text) -> list[exp.Expr]:
    try:
        return [tree for tree in sqlglot.parse(text.sql, read="duckdb") if tree is not None]
    except ParseError as error:
        first = error.errors[0]
        before = text.sql.split("\n")[: int(first["line"] or 1) - 1]
        start = sum(len(line) + 1 for line in before) + max(int(first["col"] or 1) - len(str(first["highlight"])), 0)
        what = str(first["description"]).split(".")[0].lower()
        raise DeclarationError(
            "HR0201", f"cannot be read: {what}", place=text.offset(start, len(str(first["highlight"])))
        ) from None
    except TokenError as error:
        raise DeclarationError("HR0201", f"cannot be read: {str(error).splitlines()[0]}", place=text.place) from None


def function_name(node: exp.Expr) -> str | None:
    """The SQL name of a function call, or None where the node is not one."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if isinstance(node, exp.Func) and not isinstance(node, _AS_SQL):
        key = type(node).__name__.lower()
        return _SQL_NAMES.get(key, node.sql_name().lower() if key not in SCALARS | MERGEABLE | WHOLE else key)
    return None


def check_subset(tree: exp.Expr, text: Text, *, extra: frozenset[str] = frozenset()) -> list[DeclarationError]:
    """Every construct of the tree that is outside the subset."""
    errors = []
    for node in tree.walk():
        name = function_name(node)
        if name is not None:
            if name not in SCALARS | MERGEABLE | WHOLE | WINDOWS | extra:
                hint = HINTS.get(name, "not one of the functions that mean the same in every engine; see docs/sql.md")
                errors.append(
                    DeclarationError(
                        "HR0202", f"{name}() is outside the SQL subset", place=text.call(node, name), help=hint
                    )
                )
        elif isinstance(node, exp.AtTimeZone):
            if "at time zone" not in extra:
                help = "times are UTC here; in a query write extract(hour FROM t AT TIME ZONE $zone)"
                errors.append(_refused(text, node, "AT TIME ZONE", help))
        elif isinstance(node, exp.Join) and node.args.get("method"):
            errors.append(
                _refused(text, node, f"{node.args['method']} JOIN", "write the range: valid_from <= t AND t < valid_to")
            )
        elif isinstance(node, exp.Union) and node.args.get("distinct"):
            errors.append(
                _refused(text, node, "UNION without ALL", "write UNION ALL; duplicates are dropped by the source's id")
            )
        elif not isinstance(node, (*_AS_SQL, exp.Func)):
            what = type(node).__name__
            errors.append(_refused(text, node, what.upper(), "see docs/sql.md for what the subset holds"))
    return errors


def check_nesting(tree: exp.Expr, text: Text) -> list[DeclarationError]:
    """SELECTs within expressions or joins: what they read would be neither followed nor counted once."""
    errors = []
    for select in tree.find_all(exp.Select):
        holder = select.parent
        while isinstance(holder, (exp.Subquery, exp.Union)):
            holder = holder.parent
        if holder is not None and not isinstance(holder, (exp.From, exp.CTE)):
            errors.append(
                _refused(
                    text, select, "a SELECT within an expression or a join", "join a reference or a mart by its key"
                )
            )
    return errors


def _refused(text: Text, node: exp.Expr, what: str, help: str) -> DeclarationError:
    return DeclarationError("HR0202", f"{what} is outside the SQL subset", place=text.at(node), help=help)


def is_aggregate(node: exp.Expr) -> bool:
    """A call of an aggregate function, with or without FILTER, not used as a window."""
    inner = node.this if isinstance(node, exp.Filter) else node
    return function_name(inner) in MERGEABLE | WHOLE and not isinstance(node.parent, exp.Window)


def render(node: exp.Expr) -> str:
    """The node as DuckDB SQL."""
    return node.sql(dialect="duckdb", comments=False)


def is_division_safe(node: exp.Div) -> bool:
    """The divisor cannot be zero: a nullif, or a number other than 0."""
    divisor = node.expression
    while isinstance(divisor, (exp.Paren, exp.Cast)):
        divisor = divisor.this
    if isinstance(divisor, exp.Literal) and not divisor.is_string:
        return float(divisor.this) != 0
    return isinstance(divisor, exp.Nullif) or (
        isinstance(divisor, exp.Mul) and all(_never_zero(side) for side in (divisor.this, divisor.expression))
    )


def _never_zero(node: exp.Expr) -> bool:
    while isinstance(node, exp.Paren):
        node = node.this
    return isinstance(node, exp.Nullif) or (isinstance(node, exp.Literal) and float(node.this) != 0)
