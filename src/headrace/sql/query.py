"""A query's one SELECT: its parameters, the serving table that answers it, and the code that finishes the answer."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import exp

from headrace.errors import DeclarationError, Place, nearest
from headrace.model.mart import Mart, Part
from headrace.model.serving import Parameter, ServingTable
from headrace.model.types import Column, Type, parse_type
from headrace.sql.body import Body, Join, define_all
from headrace.sql.dialect import Text, check_nesting, function_name, is_aggregate, parse_expression, render
from headrace.sql.evaluate import Code, Evaluator, stored_code
from headrace.sql.mart import ORIGIN, MartErrors, Relation, check_fan_out, doc_of

Row = tuple[Any, ...]
LIMIT = 100
MOST = 10_000
"""Rows that an answer has unless asked otherwise, and at most."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Reference rows joined when answering: by key, after the fetch."""

    table: ServingTable
    keys: Callable[[Iterable[Row], Mapping[str, Any]], set[Row]]
    of_rows: bool = True
    """Whether the keys are the fetched rows' own, and nothing that a parameter or the query says."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Partitions and a range of one table; the functions take the parameters, as those of a Plan do."""

    table: ServingTable
    partitions: Callable[[Mapping[str, Any]], list[Row]]
    bounds: Callable[[Mapping[str, Any]], tuple[Any, bool, Any, bool]]
    picked: Mapping[str, str] = field(default_factory=dict)
    """As of a Plan."""
    bounded: bool = False
    """As of a Plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to answer: which partitions and range of one table to fetch, and what to do with the rows.

    ``partitions`` and ``bounds`` take the parameters; bounds are (low, low included, high, high included), None where
    open. ``finish`` takes live rows in key order, parameters and one dict a lookup, and gives the answer's rows.
    ``in_key_order`` says that the rows of one partition come out as fetched, so that limit and cursor go into the fetch;
    ``reverse`` that they are fetched backwards.
    """

    table: ServingTable
    partitions: Callable[[Mapping[str, Any]], list[Row]]
    bounds: Callable[[Mapping[str, Any]], tuple[Any, bool, Any, bool]]
    lookups: tuple[Lookup, ...]
    finish: Callable[..., list[Row]]
    in_key_order: bool
    reverse: bool
    source: str
    others: tuple[Fetch, ...] = ()
    """Further fetches of a query over several marts; their rows follow ``looked`` in the call of ``finish``."""
    picked: Mapping[str, str] = field(default_factory=dict)
    """By column of the partition, the parameter whose value (or one of whose values) it is, just as it was given."""
    bounded: bool = False
    """Whether ``bounds`` limits the first clustering column on both sides."""

    @property
    def tables(self) -> tuple[ServingTable, ...]:
        """Every table that the plan reads."""
        return (self.table, *(look.table for look in self.lookups), *(other.table for other in self.others))


@dataclass(frozen=True, slots=True)
class Query:
    """A named, parameterised question. ``plans`` are keyed by the optional parameters that are given."""

    name: str
    doc: str
    sql: str
    file: str
    origin: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    plans: Mapping[frozenset[str], Plan]
    validations: tuple[tuple[str, Callable[[Mapping[str, Any]], bool | None]], ...]
    limit: str | None
    fixed_limit: int | None = None
    tables: tuple[ServingTable, ...] = field(default=())

    def plan(self, given: Mapping[str, Any]) -> Plan:
        return self.plans[self.variant(given)]

    def variant(self, given: Mapping[str, Any]) -> frozenset[str]:
        """The key of the plan for these values."""
        optional = frozenset().union(*self.plans)
        return frozenset(name for name in optional if given.get(name) is not None)


@dataclass(slots=True)
class Predicates:
    """The conjuncts of a WHERE, by what becomes of them."""

    equal: dict[str, exp.Expr] = field(default_factory=dict)
    many: dict[str, exp.Expr] = field(default_factory=dict)
    optional: dict[str, tuple[str, exp.Expr]] = field(default_factory=dict)
    low: dict[str, tuple[exp.Expr, bool]] = field(default_factory=dict)
    high: dict[str, tuple[exp.Expr, bool]] = field(default_factory=dict)
    residual: list[exp.Expr] = field(default_factory=list)
    pushed: list[exp.Expr] = field(default_factory=list)
    validations: list[exp.Expr] = field(default_factory=list)

    def picks(self, column: str) -> bool:
        """Whether values of a column are picked already: another condition on it filters what was read."""
        return column in self.equal or column in self.many or column in self.optional


class Compiler:
    """Reads one SELECT over one mart, dataset or reference. ``parameters`` are shared by the SELECTs of one query."""

    def __init__(
        self,
        name: str,
        text: Text,
        marts: Mapping[str, Mart],
        relations: Mapping[str, Relation],
        parameters: dict[str, Parameter],
    ) -> None:
        self.name = name
        self.text = text
        self.marts = marts
        self.relations = relations
        self.parameters = parameters

    def error(self, code: str, what: str, node: exp.Expr | None, help: str = "") -> MartErrors:
        return MartErrors([DeclarationError(code, what, place=self.text.at(node), help=help)])

    # Reading the SELECT

    def read(self, tree: exp.Select) -> tuple[Predicates, str | None, int | None]:
        """Notes what the SELECT asks for; gives its predicates, and its limit as a parameter or a number."""
        for unwanted in ("offset", "distinct", "qualify"):
            if tree.args.get(unwanted):
                raise self.error(
                    "HR0211",
                    f"{unwanted.upper()} is not for queries",
                    tree,
                    "pages go by cursor; distinct rows by GROUP BY",
                )
        nested = check_nesting(tree, self.text)
        if nested:
            raise MartErrors(nested)
        base = tree.args["from_"].this if tree.args.get("from_") else None
        if not isinstance(base, exp.Table):
            raise self.error("HR0211", "a query reads FROM a mart, dataset or reference", tree)
        if base.name not in self.marts and base.name not in self.relations:
            raise self.error(
                "HR0203", f"unknown table '{base.name}'", base, nearest(base.name, [*self.marts, *self.relations])
            )
        self.mart = self.marts.get(base.name)
        self.base, self.alias = base.name, base.alias_or_name
        self.joins: dict[str, Join] = {}
        for join in tree.args.get("joins") or []:
            self.add_join(join)
        self.outputs = {item.alias_or_name: item.unalias() for item in tree.expressions}
        if len(self.outputs) != len(tree.expressions) or any(isinstance(e, exp.Star) for e in self.outputs.values()):
            raise self.error("HR0211", "every output of a query has a name of its own", tree, "write the columns out")
        grouped = tree.args.get("group")
        self.aggregated = grouped is not None or any(is_aggregate(n) for e in self.outputs.values() for n in e.walk())
        self.group = self.group_keys(grouped)
        self.order = [
            (o.this, bool(o.args.get("desc")))
            for o in (tree.args["order"].expressions if tree.args.get("order") else [])
        ]
        self.having = tree.args["having"].this if tree.args.get("having") else None
        if self.having is not None and not self.aggregated:
            raise self.error("HR0211", "HAVING is for groups", self.having, "write WHERE")
        refuse_null_order(tree, self.error)
        limit, fixed = self.read_limit(tree.args.get("limit"))
        found = self.predicates(tree.args["where"].this if tree.args.get("where") else None)
        note_zones(tree, self.parameters)
        return found, limit, fixed

    def select(self, tree: exp.Select) -> Query:
        """The whole query, where it is one SELECT."""
        found, limit, fixed = self.read(tree)
        columns: tuple[Column, ...] = ()
        plans: dict[frozenset[str], Plan] = {}
        # Without a required equality each optional one becomes a partition of its own; with one it filters at read.
        optional = sorted(found.optional) if not found.equal and not found.many else []
        if len(optional) > 2:
            raise self.error(
                "HR0214",
                f"{len(optional)} optional equalities need {2 ** len(optional)} tables",
                tree,
                "make one of them required",
            )
        for size in range(len(optional) + 1):
            for given in itertools.combinations(optional, size):
                plan, columns = self.plan(found, frozenset(given), optional)
                plans[frozenset(found.optional[column][0] for column in given)] = plan
        validations = tuple((render(v), self.condition(v)) for v in found.validations)
        return self.query(plans, columns, validations, limit, fixed)

    def query(
        self,
        plans: Mapping[frozenset[str], Plan],
        columns: tuple[Column, ...],
        validations: tuple[tuple[str, Callable[[Mapping[str, Any]], bool | None]], ...],
        limit: str | None,
        fixed: int | None,
    ) -> Query:
        tables = {table.name: table for plan in plans.values() for table in plan.tables}
        return Query(
            self.name, doc_of(self.text.sql), self.text.sql, self.text.place.file, self.base, tuple(self.parameters.values()), columns, plans,
            validations, limit, fixed, tuple(tables.values()),
        )  # fmt: skip

    def add_join(self, join: exp.Join) -> None:
        right = join.this
        if not isinstance(right, exp.Table) or right.name not in self.relations or str(join.side).upper() != "LEFT":
            raise self.error("HR0211", "a query joins references by LEFT JOIN", join, "LEFT JOIN reference USING (key)")
        relation = self.relations[right.name]
        errors = check_fan_out(join, relation, self.text)
        if errors:
            raise MartErrors(errors)
        pairs: dict[str, exp.Expr] = {
            i.name: exp.column(i.name, table=self.alias) for i in join.args.get("using") or []
        }
        rest: list[exp.Expr] = []
        for node in conjuncts(join.args.get("on")):
            sides = [node.this, node.expression] if isinstance(node, exp.EQ) else []
            mine = next((s for s in sides if isinstance(s, exp.Column) and s.table == right.alias_or_name), None)
            if mine is not None and mine.name in relation.key:
                pairs[mine.name] = sides[1] if mine is sides[0] else sides[0]
            else:
                rest.append(node)
        self.joins[right.alias_or_name] = (relation, pairs, rest)

    def group_keys(self, group: exp.Group | None) -> list[exp.Expr]:
        if group is None:
            return []
        if group.args.get("all"):
            return [e for e in self.outputs.values() if not any(is_aggregate(n) for n in e.walk())]
        return [
            self.outputs.get(g.name, g) if isinstance(g, exp.Column) and not g.table else g for g in group.expressions
        ]

    def read_limit(self, limit: exp.Limit | None) -> tuple[str | None, int | None]:
        if limit is None:
            return None, None
        node = limit.expression
        default: object = LIMIT
        if isinstance(node, exp.Coalesce) and node.expressions:
            default, node = int(node.expressions[0].name), node.this
        if isinstance(node, exp.Literal):
            return None, int(node.name)
        if not isinstance(node, exp.Placeholder):
            raise self.error("HR0211", "LIMIT takes a number or a parameter", limit, "LIMIT coalesce($limit, 20)")
        name = str(node.this)
        self.parameters[name] = Parameter(name, Type("INTEGER"), required=False, default=default, maximum=MOST)
        return name, None

    # Predicates

    def predicates(self, where: exp.Expr | None) -> Predicates:
        found = Predicates()
        for node in conjuncts(where):
            self.infer(node)
            if not list(node.find_all(exp.Column)):
                found.validations.append(node)
            elif not self.as_key(node, found):
                (found.pushed if self.can_be_pushed(node) else found.residual).append(node)
        ranges = [c for c in dict.fromkeys([*found.low, *found.high]) if c not in found.equal and c not in found.many]
        preferred = next(
            (o.name for o, _ in self.order if isinstance(o, exp.Column) and o.name in ranges),
            ranges[0] if ranges else None,
        )
        for column in dict.fromkeys([*found.low, *found.high]):
            if column != preferred:
                for bounds, kind, strict in ((found.low, exp.GTE, exp.GT), (found.high, exp.LTE, exp.LT)):
                    if column in bounds:
                        value, included = bounds.pop(column)
                        found.residual.append(
                            (kind if included else strict)(this=exp.column(column), expression=value.copy())
                        )
        return found

    def as_key(self, node: exp.Expr, found: Predicates) -> bool:
        """Whether a conjunct became part of the fetch."""
        if isinstance(node, exp.EQ):
            column, value = self.column_and_value(node.this, node.expression)
            if column and not found.picks(column) and self.is_comparable(column, value):
                found.equal[column] = value
                return True
        if (
            isinstance(node, exp.In)
            and isinstance(node.args.get("field"), exp.Placeholder)
            and self.key_column(node.this)
            and not found.picks(node.this.name)
        ):
            found.many[node.this.name] = node.args["field"]
            return True
        if (
            isinstance(node, exp.Between)
            and self.key_column(node.this)
            and node.this.name not in {*found.low, *found.high}
            and all(
                not _columns(node.args[end]) and self.is_comparable(node.this.name, node.args[end])
                for end in ("low", "high")
            )
        ):
            found.low[node.this.name] = (node.args["low"], True)
            found.high[node.this.name] = (node.args["high"], True)
            return True
        if isinstance(node, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
            column, value = self.column_and_value(node.this, node.expression)
            upward = isinstance(node, (exp.GT, exp.GTE)) == (
                isinstance(node.this, exp.Column) and node.this.name == column
            )
            bounds = found.low if upward else found.high
            if column and column not in bounds and self.is_comparable(column, value):
                bounds[column] = (value, isinstance(node, (exp.GTE, exp.LTE)))
                return True
        return self.as_optional(node, found)

    def as_optional(self, node: exp.Expr, found: Predicates) -> bool:
        """``($x IS NULL OR column = $x)``."""
        while isinstance(node, exp.Paren):
            node = node.this
        if not isinstance(node, exp.Or):
            return False
        absent, equal = node.this, node.expression
        if not (
            isinstance(absent, exp.Is)
            and isinstance(absent.this, exp.Placeholder)
            and isinstance(absent.expression, exp.Null)
        ):
            return False
        name = str(absent.this.this)
        if not isinstance(equal, exp.EQ):
            return False
        column, value = self.column_and_value(equal.this, equal.expression)
        if not column or found.picks(column) or not isinstance(value, exp.Placeholder) or str(value.this) != name:
            return False
        known = self.parameters[name]
        self.parameters[name] = Parameter(name, known.type, required=False)
        found.optional[column] = (name, node)
        return True

    def column_and_value(self, left: exp.Expr, right: exp.Expr) -> tuple[str, exp.Expr]:
        for column, value in ((left, right), (right, left)):
            if self.key_column(column) and not _columns(value) and value.find(exp.Placeholder, exp.Literal):
                return column.name, value
        return "", left

    def is_comparable(self, column: str, value: exp.Expr) -> bool:
        """Whether a value bounds a key as it is: a date is no bound for a day that a moment within it would be."""
        kind = self.key_column(exp.column(column))
        if kind is None or kind.type.name != "DATE":
            return True
        evaluator = Evaluator(self.text, lambda c: (_ for _ in ()).throw(KeyError(c.name)), self.parameter)
        return not evaluator.compile(value).type.is_instant

    def key_column(self, node: exp.Expr) -> Column | None:
        """The column of the base table that can be part of a key: a mart's grain, a dataset's columns."""
        if not isinstance(node, exp.Column) or node.table not in ("", self.alias):
            return None
        if self.mart is not None:
            return self.mart.grain_column(node.name)
        column = self.relations[self.base].column(node.name)
        return column if column is not None and not column.nullable else None

    def can_be_pushed(self, node: exp.Expr) -> bool:
        """Whether a predicate can be decided when publishing: it is about key columns and literals only."""
        # What clocks show where is the evaluator's to say: no two engines have the same edition of the tz database.
        return node.find(exp.Placeholder, exp.AtTimeZone) is None and all(
            self.key_column(c) for c in node.find_all(exp.Column)
        )

    # Parameters and their types

    def infer(self, node: exp.Expr) -> None:
        """Gives every parameter in a predicate the type of what it is compared with."""
        for literal in node.find_all(exp.Literal):
            beside = self.type_beside(literal) if literal.is_string else None
            if beside is not None and beside.name == "DATE" and not _is_date(literal.name):
                raise self.error("HR0213", f"'{literal.name}' is no DATE", literal, "as '2024-05-01'")
        for place in node.find_all(exp.Placeholder):
            name = str(place.this)
            if name in self.parameters or name == "now":
                continue
            holder: exp.Expr = place
            required = True
            if isinstance(place.parent, exp.Coalesce) and place.parent.this is place:
                holder, required = place.parent, False
            type = self.type_beside(holder)
            many = isinstance(place.parent, exp.In) and place.parent.args.get("field") is place
            if type is None:
                continue
            self.parameters[name] = Parameter(name, type, required, many)
        for place in node.find_all(exp.Placeholder):
            name = str(place.this)
            if name not in self.parameters and name != "now":
                raise self.error(
                    "HR0213",
                    f"parameter ${name} has no type",
                    place,
                    f"compare it with a column, or write CAST(${name} AS DATE)",
                )

    def type_beside(self, node: exp.Expr) -> Type | None:
        parent = node.parent
        if isinstance(parent, exp.Cast):
            return parse_type(parent.to.sql(dialect="duckdb"))
        if isinstance(parent, exp.Paren):
            return self.type_beside(parent)
        if isinstance(parent, exp.AtTimeZone) and parent.args["zone"] is node:
            return Type("VARCHAR")
        if isinstance(parent, exp.TimestampTrunc) or (parent is not None and function_name(parent) == "date_trunc"):
            return self.type_beside(parent)
        if isinstance(parent, (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
            return self.static_type(parent.expression if parent.this is node else parent.this)
        if isinstance(parent, (exp.Between, exp.In)):
            return self.static_type(parent.this)
        return None

    def static_type(self, node: exp.Expr) -> Type | None:
        if isinstance(node, exp.Column):
            if node.table in self.joins:
                column = self.joins[node.table][0].column(node.name)
                return column.type if column else None
            if self.mart is not None:
                known = self.mart.grain_column(node.name) or self.mart.measure(node.name)
                return known.type if known else None
            found = self.relations[self.base].column(node.name)
            return found.type if found else None
        if isinstance(node, exp.Extract) or (isinstance(node, exp.Literal) and node.is_int):
            return Type("BIGINT")
        if isinstance(node, exp.Coalesce):
            return next((t for t in map(self.static_type, [node.this, *node.expressions]) if t), None)
        if isinstance(node, exp.Cast):
            return parse_type(node.to.sql(dialect="duckdb"))
        return None

    def parameter(self, node: exp.Expr, name: str) -> Code:
        if name == "now":
            return Code("p['now']", Type("TIMESTAMPTZ"))
        if name not in self.parameters:
            raise DeclarationError("HR0213", f"parameter ${name} has no type", place=self.text.at(node),
                                   help=f"compare it with a column, or write CAST(${name} AS DATE)")  # fmt: skip
        return stored_code(f"p[{name!r}]", self.parameters[name].type)

    def condition(self, node: exp.Expr) -> Callable[[Mapping[str, Any]], bool | None]:
        evaluator = Evaluator(self.text, lambda c: (_ for _ in ()).throw(KeyError(c.name)), self.parameter)
        return _define(f"def f(p): return {evaluator.compile(node).source}")

    # Building a plan

    def plan(
        self, found: Predicates, given: frozenset[str], optional: list[str], *, raw: bool = False
    ) -> tuple[Plan, tuple[Column, ...]]:
        """A plan and its columns; ``raw``: values and types as they are before they are finished."""
        partition_values = {**found.equal, **found.many}
        residual = list(found.residual)
        for column, (_, node) in found.optional.items():
            if column in given:
                partition_values[column] = node.expression.expression if isinstance(node, exp.Or) else node
            elif column not in optional:
                residual.append(node)
        ranged = next(iter([*found.low, *found.high]), None)
        table = self.table(found, list(partition_values), ranged, residual)
        if (
            self.mart is None
            and self.relations[self.base].kind != "reference"
            and not partition_values
            and ranged is None
        ):
            raise self.error("HR0214", f"the query reads every row of '{self.base}'", residual[0] if residual else None,
                             "compare a NOT NULL column with a parameter: WHERE column = $parameter, or a range of the event time")  # fmt: skip
        reverse, in_order = self.fetch_order(table, residual, many=bool(found.many))
        body = Body(self, table, residual, in_order=in_order and not raw, raw=raw)
        body.build()
        low, high = found.low.get(ranged or ""), found.high.get(ranged or "")
        evaluator = Evaluator(self.text, body.no_column, self.parameter)
        key_types = {c.name: c.type for c in table.key}

        def bound(pair: tuple[exp.Expr, bool] | None) -> str:
            return _stored(evaluator, pair[0], key_types[ranged or ""]) if pair else "None"

        alternatives = [
            f"p[{str(v.this)!r}]" if c in found.many else f"({_stored(evaluator, v, key_types[c])},)"
            for c, v in partition_values.items()
        ]
        loops = " ".join(f"for v{i} in {a}" for i, a in enumerate(alternatives)) or "for _ in (0,)"
        source = (
            f"def partitions(p): return [({''.join(f'v{i}, ' for i in range(len(alternatives)))}) {loops}]\n"
            f"def bounds(p): return ({bound(low)}, {low[1] if low else True}, {bound(high)}, {high[1] if high else True})\n"
            + body.source
        )
        functions = define_all(source)
        lookups = tuple(
            Lookup(t, functions[f"keys{i}"], _of_rows(pairs.values()))
            for i, (t, (_, pairs, _)) in enumerate(zip(body.lookup_tables, self.joins.values(), strict=True))
        )
        picked = {c: str(v.this) for c, v in partition_values.items() if isinstance(v, exp.Placeholder)}
        plan = Plan(
            table, functions["partitions"], functions["bounds"], lookups, functions["finish"], in_order, reverse, source,
            picked=picked, bounded=low is not None and high is not None,
        )  # fmt: skip
        return plan, body.columns

    def fetch_order(self, table: ServingTable, residual: list[exp.Expr], *, many: bool) -> tuple[bool, bool]:
        """Whether the fetch goes backwards, and whether its order is the answer's."""
        names = [o.name if isinstance(o, exp.Column) else None for o, _ in self.order]
        names = [
            self.outputs[n].name if n in self.outputs and isinstance(self.outputs[n], exp.Column) else n for n in names
        ]
        key = [c.name for c in table.clustering]
        varied = [n for n in names if n not in {c.name for c in table.partition}]
        directions = {d for (_, d), n in zip(self.order, names, strict=True) if n in varied}
        matches = bool(self.order) and varied == key[: len(varied)] and len(directions) <= 1
        return directions == {True} and matches, matches and not self.aggregated and not residual and not many

    def table(
        self, found: Predicates, partition: list[str], ranged: str | None, residual: list[exp.Expr]
    ) -> ServingTable:
        needed = [*partition, *([ranged] if ranged else [])]
        expressions = [*residual, *self.group, *(o for o, _ in self.order), *self.outputs.values()]
        if self.having is not None:
            expressions.append(self.having)
        for _, pairs, rest in self.joins.values():
            expressions += [*pairs.values(), *rest]
        ordering = [o.name for o, _ in self.order if isinstance(o, exp.Column)]
        if self.mart is None:
            relation = self.relations[self.base]
            identity = [k for k in relation.key or relation.identity if k not in needed]
            if not relation.key and not relation.identity:
                raise self.error("HR0214", f"'{self.base}' can have several rows of one record, which no key tells apart", None,
                                 "query a dataset without unnest() and without the same source twice, or a mart")  # fmt: skip
            ordered = [c for c in ordering if self.key_column(exp.column(c)) and c not in needed]
            clustering = [
                *([ranged] if ranged and ranged not in partition else []),
                *ordered,
                *[i for i in identity if i not in ordered],
            ]
            used = {c.name for e in expressions for c in e.find_all(exp.Column) if c.table in ("", self.alias)} - set(
                self.outputs
            )
            used |= {
                c.name for e in self.outputs.values() for c in e.find_all(exp.Column) if c.table in ("", self.alias)
            }
            values = [c for c in relation.columns if c.name in used and c.name not in (*partition, *clustering)]
            unknown = next((c for c in used if relation.column(c) is None), None)
            if unknown:
                node = next(c for e in expressions for c in e.find_all(exp.Column) if c.name == unknown)
                raise self.error(
                    "HR0204",
                    f"'{self.base}' has no column '{unknown}'",
                    node,
                    nearest(unknown, [c.name for c in relation.columns]),
                )
            parts = tuple(Part(c.name, "value", c.name, c.type) for c in values)
            key = {c.name: c for c in (*relation.columns, *ORIGIN)}
        else:
            whole = (not self.aggregated) or self.mart.having or any(self.counts_rows(e) for e in expressions)
            names = {c.name for e in expressions for c in e.find_all(exp.Column) if c.table in ("", self.alias)}
            grain = [g.name for g in self.mart.grain if whole or g.name in names or g.name in needed]
            ordered = [n for n in ordering if n in grain and n not in needed]
            clustering = [
                *([ranged] if ranged else []),
                *ordered,
                *[g for g in grain if g not in needed and g not in ordered],
            ]
            parts = tuple(p for p in self.mart.parts if self.uses_part(p, expressions))
            if not whole and any(p.merge == "value" for p in parts) and set(grain) != {g.name for g in self.mart.grain}:
                raise self.error(
                    "HR0212",
                    f"the values of '{self.base}' cannot be rolled up",
                    None,
                    "ask for the mart's own rows, or group by its whole grain",
                )
            key = {g.name: g for g in self.mart.grain}
        for name in (*partition, *clustering):
            if key[name].type.name in ("DECIMAL", "DOUBLE", "LIST"):
                raise self.error(
                    "HR0214",
                    f"'{name}' is {key[name].type}, which cannot be a key",
                    None,
                    f"cast it: CAST({name} AS BIGINT)",
                )
        where = " AND ".join(f"({_plain(n, self.alias)})" for n in found.pushed)
        shape = (
            self.base,
            [str(key[n]) for n in partition],
            [str(key[n]) for n in clustering],
            [(p.name, p.merge, p.lake_type) for p in parts],
            where,
        )
        digest = hashlib.sha256(repr(shape).encode()).hexdigest()[:8]
        return ServingTable(
            f"{self.base}_{digest}",
            self.base,
            self.mart is not None,
            tuple(key[n] for n in partition),
            tuple(key[n] for n in clustering),
            parts,
            where,
        )

    def counts_rows(self, node: exp.Expr) -> bool:
        return any(function_name(n) == "count" and isinstance(n.this, exp.Star) for n in node.walk())

    def uses_part(self, part: Part, expressions: list[exp.Expr]) -> bool:
        assert self.mart is not None
        names = {c.name for e in expressions for c in e.find_all(exp.Column) if c.table in ("", self.alias)}
        if self.mart.having:
            names |= _names(self.mart.having)
        return any(part.name in _names(m.finisher) for m in self.mart.measures if m.name in names)


def note_zones(tree: exp.Expr, parameters: dict[str, Parameter]) -> None:
    """Parameters that stand for a time zone take the name of one, wherever in a query that is."""
    for node in tree.find_all(exp.AtTimeZone):
        for place in node.args["zone"].find_all(exp.Placeholder):
            name, required = str(place.this), not isinstance(place.parent, exp.Coalesce)
            known = parameters.get(name, Parameter(name, Type("VARCHAR"), required))
            parameters[name] = replace(known, zone=True)


def refuse_null_order(tree: exp.Select, error: Callable[[str, str, exp.Expr | None, str], Exception]) -> None:
    """NULL comes last, whatever the direction, as it does where nothing is said."""
    for item in tree.args["order"].expressions if tree.args.get("order") else []:
        if item.args.get("nulls_first"):
            raise error("HR0211", "NULLS FIRST is not for queries", item, "NULL comes last; leave it out")


def _is_date(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    if node is None:
        return []
    if isinstance(node, exp.And):
        return [*conjuncts(node.this), *conjuncts(node.expression)]
    if isinstance(node, exp.Paren) and isinstance(node.unnest(), exp.And):
        return conjuncts(node.unnest())
    return [node]


@functools.cache
def _names(sql: str) -> frozenset[str]:
    """Names of the columns of an expression that is known to be one: asked for each part of each table of each query."""
    return frozenset(c.name for c in parse_expression(Text(sql, Place(""))).find_all(exp.Column))


def _of_rows(values: Iterable[exp.Expr]) -> bool:
    """Whether the values that a reference is looked up by come from the fetched rows alone."""
    return all(_columns(value) and value.find(exp.Placeholder) is None for value in values)


def _columns(node: exp.Expr) -> list[exp.Column]:
    return list(node.find_all(exp.Column))


def _plain(node: exp.Expr, alias: str) -> str:
    """The predicate without table aliases, for the publish step's SQL."""
    node = node.copy()
    for column in node.find_all(exp.Column):
        if column.table == alias:
            column.set("table", None)
    return render(node)


def _stored(evaluator: Evaluator, node: exp.Expr, type: Type) -> str:
    """A parameter expression as the stored value of a key column."""
    code = evaluator.compile(node)
    if type.is_instant and code.type.name == "DATE":
        return f"instant({code.source})"
    if type.name == "DATE" and code.type.is_instant:
        return f"date_of({code.source})"
    numbers = type.is_exact and code.number is not None and code.type.scale == 0
    if not (
        numbers
        or code.type.name == type.name
        or (type.is_instant and code.type.is_instant)
        or (type.name == "DATE" and code.type.name == "VARCHAR")
    ):
        raise evaluator.refuse(node, f"it is {code.type}, and the column is {type}")
    return code.source


def _define(source: str) -> Callable[..., Any]:
    return define_all(source)["f"]
