"""A mart's one SELECT, taken apart into grain, mergeable parts and finishers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from sqlglot import exp

from headrace.errors import DeclarationError, nearest
from headrace.model.mart import Mart, Measure, Merge, Part
from headrace.model.types import Column, Type, parse_type
from headrace.sql.dialect import (
    WHOLE,
    Text,
    check_nesting,
    check_subset,
    function_name,
    is_aggregate,
    is_division_safe,
    parse_expression,
    parse_select,
    render,
)

RECORDS = "_records"
"""The hidden count of records that every mart carries, so that an emptied group disappears."""

MAY_BE_NULL = (
    exp.Null, exp.Nullif, exp.TryCast, exp.JSONExtract, exp.JSONExtractScalar, exp.JSONType, exp.Bracket
)  # fmt: skip
"""What can be NULL although nothing in it is."""
Describe = Callable[[str], Sequence[tuple[str, str]]]
"""Names and types of the columns of a SELECT over the project's relations; raises DeclarationError."""


ORIGIN = (Column("_lane", Type("VARCHAR"), nullable=False), Column("_offset", Type("BIGINT"), nullable=False))
"""What tells the rows of facts apart for good: an id does so within its horizon only."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What SQL may read: columns, the ``key`` that a join can rely on, the ``identity`` that tells rows apart (empty
    where nothing does), and why it is batch only (if it is)."""

    name: str
    columns: tuple[Column, ...]
    kind: str
    key: tuple[str, ...] = ()
    valid: tuple[str, str] | None = None
    batch_only: str = ""
    identity: tuple[str, ...] = ()
    mart: Mart | None = None

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)


def compile_mart(name: str, text: Text, relations: Mapping[str, Relation], describe: Describe) -> Mart:
    """Reads one mart; raises MartErrors with all that is wrong with it."""
    return _Compiler(name, text, relations, describe).compile()


class MartErrors(Exception):
    """All that is wrong with one mart."""

    def __init__(self, errors: list[DeclarationError]) -> None:
        self.errors = errors
        super().__init__(f"{len(errors)} errors")


def doc_of(sql: str) -> str:
    """The comment lines at the top of a file, as one sentence or more."""
    lines = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].strip())
    return " ".join(lines)


class _Compiler:
    def __init__(self, name: str, text: Text, relations: Mapping[str, Relation], describe: Describe) -> None:
        self.name = name
        self.text = text
        self.relations = relations
        self.describe = describe
        self.errors: list[DeclarationError] = []
        self.parts: dict[str, tuple[str, Merge]] = {}
        self.grain_names: set[str] = set()
        self.ordered: dict[str, tuple[str, str]] = {}
        self.base = ""
        self.aliases: dict[str, tuple[str, bool]] = {}
        """By alias, the relation, and whether a LEFT JOIN may find no row of it."""

    def wrong(self, code: str, what: str, node: exp.Expr | None, help: str = "") -> None:
        self.errors.append(DeclarationError(code, what, place=self.text.at(node), help=help))

    def stop_if_wrong(self) -> None:
        if self.errors:
            raise MartErrors(self.errors)

    def compile(self) -> Mart:
        tree = parse_select(self.text)
        if (
            not isinstance(tree, exp.Select)
            or tree.args.get("with_")
            or any(tree.args.get(part) for part in ("limit", "offset", "distinct", "qualify"))
            or tree.args.get("order")
        ):
            self.wrong(
                "HR0210",
                "a mart is one SELECT without WITH, DISTINCT, ORDER BY, LIMIT or OFFSET",
                tree,
                "move the steps to silver/*.sql",
            )
            self.stop_if_wrong()
        select = cast("exp.Select", tree)
        self.errors += check_subset(select, self.text) + check_nesting(select, self.text)
        self.stop_if_wrong()
        inputs = self.inputs(select)
        self.stop_if_wrong()
        merged = self.over_parts(select, inputs[0])
        self.stop_if_wrong()
        input_columns = {c.name for name in inputs for c in self.relations[name].columns}
        outputs = self.outputs(select, input_columns)
        self.stop_if_wrong()
        whole = [
            n for e in outputs.values() for n in e.walk() if function_name(n) in WHOLE or isinstance(n, exp.Window)
        ]
        grain = {alias: e for alias, e in outputs.items() if not self.is_measure(e)}
        measures = {alias: e for alias, e in outputs.items() if alias not in grain}
        self.grain_names = set(grain)
        self.base = select.args["from_"].this.alias_or_name
        self.check_grain(grain, inputs)
        self.check_measures(measures, grain)
        batch_only = next(
            (
                f"it reads {n}, which is batch only: {self.relations[n].batch_only}"
                for n in inputs
                if self.relations[n].batch_only and not (merged and n == inputs[0])
            ),
            merged.batch_only if merged else "",
        )
        if whole:
            batch_only = f"{function_name(whole[0]) or 'a window'}() needs all records at once (line {self.text.at(whole[0]).line})"
            finished = {alias: self.value_part(alias, e) for alias, e in measures.items()}
        else:
            finished = {alias: self.take_apart(alias, e) for alias, e in measures.items()}
        self.stop_if_wrong()
        records = f"sum({RECORDS})" if merged else "count(*)"
        return self.build(select, inputs, grain, measures, finished, batch_only, records, mergeable=not whole)

    def over_parts(self, select: exp.Select, base: str) -> Mart | None:
        """Rewrites ``measure(column)`` of a mart over a mart: its finisher over the merged parts of the inner mart."""
        inner = self.relations[base].mart
        calls = [n for n in select.find_all(exp.Anonymous) if str(n.this).lower() == "measure"]
        if not calls:
            return None
        if inner is None:
            self.wrong(
                "HR0210",
                "measure() merges a mart's parts",
                calls[0],
                "aggregate the dataset's own columns: sum(x), count(*)",
            )
            return None
        parts = {p.name: p for p in inner.parts}
        for call in calls:
            column = call.expressions[0]
            found = inner.measure(column.name) if isinstance(column, exp.Column) else None
            if found is None:
                self.wrong(
                    "HR0204",
                    f"'{base}' has no measure '{render(column)}'",
                    call,
                    nearest(render(column), [m.name for m in inner.measures]),
                )
                continue
            tree = parse_expression(Text(found.finisher, self.text.place))
            for part in list(tree.find_all(exp.Column)):
                if parts[part.name].merge not in ("sum", "min", "max", "bool_or", "bool_and"):
                    self.wrong(
                        "HR0212",
                        f"measure({column.name}) has a part that is merged by {parts[part.name].merge}",
                        call,
                        "read the dataset instead",
                    )
                    continue
                merged = exp.Anonymous(this=parts[part.name].merge, expressions=[exp.column(part.name)])
                if part is tree:
                    tree = merged
                else:
                    part.replace(merged)
            call.replace(exp.paren(tree))
        rewritten = parse_select(Text(render(select), self.text.place))
        select.set("expressions", rewritten.args["expressions"])
        table = select.args["from_"].this
        select.args["from_"].set("this", exp.to_table(f"{base}__parts", alias=table.alias_or_name))
        return inner

    def inputs(self, select: exp.Select) -> list[str]:
        source = select.args.get("from_")
        if source is None or not isinstance(source.this, exp.Table):
            self.wrong(
                "HR0210", "a mart reads FROM a dataset", select, "FROM a source, reference, silver dataset or mart"
            )
            return []
        names = []
        for table in [source.this, *(j.this for j in select.args.get("joins") or [])]:
            if not isinstance(table, exp.Table) or table.args.get("db") or isinstance(table.this, exp.Func):
                self.wrong(
                    "HR0202",
                    f"{render(table)} is outside the SQL subset",
                    table,
                    "read sources, references, datasets and marts only",
                )
            elif table.name not in self.relations:
                self.wrong("HR0203", f"unknown table '{table.name}'", table, nearest(table.name, self.relations))
            else:
                names.append(table.name)
        if not self.errors:
            for join in select.args.get("joins") or []:
                self.errors += check_fan_out(join, self.relations[join.this.name], self.text)
            self.aliases = {select.args["from_"].this.alias_or_name: (names[0], False)}
            for join in select.args.get("joins") or []:
                outer = str(join.side).upper() == "LEFT"
                self.aliases[join.this.alias_or_name] = (join.this.name, outer)
        return names

    def outputs(self, select: exp.Select, input_columns: set[str]) -> dict[str, exp.Expr]:
        """Each output by alias, with the outputs that it names written out."""
        group = select.args.get("group")
        having = select.args.get("having")
        outputs: dict[str, exp.Expr] = {}
        if having is not None and any(is_aggregate(n) for n in having.walk()):
            self.wrong(
                "HR0210",
                "HAVING compares outputs, not aggregates",
                having,
                "give the aggregate a name among the outputs",
            )
        for item in select.expressions:
            alias = item.alias_or_name
            inner = item.unalias().copy()
            if alias.startswith("_"):
                self.wrong("HR0103", f"'{alias}' begins with _, as Headrace's own columns do", item, "another name")
                continue
            if not alias or isinstance(item, exp.Star) or item.find(exp.Star) is item:
                self.wrong("HR0210", f"output {render(item)} needs a name", item, "write: … AS name")
                continue
            if alias in outputs:
                self.wrong("HR0104", f"output '{alias}' is named twice", item)
            for column in list(inner.find_all(exp.Column)):
                if column.table or column.name not in outputs:
                    continue
                if column.name in input_columns:
                    if self.is_measure(outputs[column.name]) and not _inside_aggregate(column):
                        self.wrong("HR0205", f"'{column.name}' is an output and a column of the input; the engine would take the column",
                                   column, f"rename the output '{column.name}'")  # fmt: skip
                    continue
                written = exp.paren(outputs[column.name].copy())
                if column is inner:
                    inner = written
                else:
                    column.replace(written)
            outputs[alias] = inner
        for column in having.find_all(exp.Column) if having is not None else ():
            if column.name not in outputs:
                self.wrong(
                    "HR0210",
                    f"HAVING compares outputs, and '{column.name}' is none",
                    column,
                    nearest(column.name, outputs),
                )
        if group is not None and not group.args.get("all"):
            named = {render(g) for g in group.expressions}
            known = {*outputs, *(render(e) for e in outputs.values()), *(str(i + 1) for i in range(len(outputs)))}
            for node in group.expressions:
                if render(node) not in known:
                    self.wrong(
                        "HR0210", f"{render(node)} is grouped by, but no output", node, "write it out, or GROUP BY ALL"
                    )
            positions = [alias for alias, e in outputs.items() if not self.is_measure(e)]
            for alias in positions:
                if (
                    alias not in named
                    and render(outputs[alias]) not in named
                    and not isinstance(outputs[alias], exp.Literal)
                ):
                    self.wrong(
                        "HR0210", f"'{alias}' is neither grouped nor aggregated", outputs[alias], "write GROUP BY ALL"
                    )
        elif group is None and any(not self.is_measure(e) for e in outputs.values()):
            self.wrong("HR0210", "a mart needs GROUP BY ALL", select, "add GROUP BY ALL")
        return outputs

    def is_measure(self, node: exp.Expr) -> bool:
        return any(is_aggregate(n) for n in node.walk()) or isinstance(node, exp.Literal)

    def check_grain(self, grain: dict[str, exp.Expr], inputs: list[str]) -> None:
        for alias, node in grain.items():
            if self.nullable(node, inputs):
                self.wrong(
                    "HR0208", f"grain column '{alias}' may be NULL", node, f"coalesce({render(node)}, …) AS {alias}"
                )

    def nullable(self, node: exp.Expr, inputs: list[str]) -> bool:
        if isinstance(node, exp.Column):
            for alias, (name, outer) in self.aliases.items():
                column = self.relations[name].column(node.name) if node.table in ("", alias) else None
                if column is not None:
                    return outer or column.nullable
            return False  # an unknown column: the engine says so, with the place
        if isinstance(node, exp.Coalesce):
            return all(self.nullable(e, inputs) for e in (node.this, *node.expressions))
        if isinstance(node, MAY_BE_NULL):
            return True
        if isinstance(node, exp.Case):
            branches = [i.args["true"] for i in node.args["ifs"]] + (
                [node.args["default"]] if node.args.get("default") else []
            )
            return not node.args.get("default") or any(self.nullable(b, inputs) for b in branches)
        if isinstance(node, (exp.Literal, exp.Boolean, exp.Is)):
            return False
        children = [c for c in node.iter_expressions() if not isinstance(c, (exp.DataType, exp.Var, exp.Interval))]
        return any(self.nullable(c, inputs) for c in children)

    def check_measures(self, measures: dict[str, exp.Expr], grain: dict[str, exp.Expr]) -> None:
        grain_columns = {c.name for e in grain.values() for c in e.find_all(exp.Column)} | set(grain)
        for alias, node in measures.items():
            for division in node.find_all(exp.Div):
                if not is_division_safe(division):
                    self.wrong(
                        "HR0206",
                        f"'{alias}' divides without nullif",
                        division,
                        f"{render(division.this)} / nullif({render(division.expression)}, 0)",
                    )
            for column in node.find_all(exp.Column):
                if not _inside_aggregate(column):
                    where = "a grain column" if column.name in grain_columns else "a column outside an aggregate"
                    self.wrong("HR0209", f"'{alias}' uses {column.name}, {where}, in a finished value", column,
                               f"FILTER (WHERE {column.name} = …) inside the aggregate")  # fmt: skip

    def value_part(self, alias: str, node: exp.Expr) -> exp.Expr:
        self.parts[alias] = (render(node), "value")
        return exp.column(alias)

    def take_apart(self, alias: str, node: exp.Expr) -> exp.Expr:
        """The finisher of an output: its expression with every aggregate replaced by a part's name."""
        node = node.copy()
        if is_aggregate(node):
            return self.aggregate(alias, node)
        for inner in list(node.walk()):
            if is_aggregate(inner) and not isinstance(inner.parent, exp.Filter):
                inner.replace(self.aggregate(alias, inner))
        return node

    def aggregate(self, alias: str, node: exp.Expr) -> exp.Expr:
        call = node.this if isinstance(node, exp.Filter) else node
        where = f" FILTER ({render(node.expression)})" if isinstance(node, exp.Filter) else ""
        function = function_name(call)
        if function == "avg":
            argument = render(call.this)
            total = self.part(f"{alias}_sum", f"sum({argument}){where}", "sum")
            count = self.part(f"{alias}_count", f"count({argument}){where}", "sum")
            return exp.paren(
                exp.Div(this=exp.column(total), expression=exp.func("nullif", exp.column(count), exp.Literal.number(0)))
            )
        if function in ("arg_min", "arg_max"):
            return exp.column(self.ordered_part(alias, call, node))
        if function == "count" and isinstance(call.this, exp.Distinct):
            if len(call.this.expressions) != 1:
                self.wrong(
                    "HR0202",
                    "count(DISTINCT a, b) is outside the SQL subset",
                    call,
                    "concatenate them: count(DISTINCT a || '|' || b)",
                )
            value = render(call.this.expressions[0])
            keep = node.expression.this if isinstance(node, exp.Filter) else None
            condition = f"{value} IS NOT NULL" + (f" AND ({render(keep)})" if keep is not None else "")
            part = self.part(f"{alias}_set", f"list(DISTINCT {value}) FILTER (WHERE {condition})", "set")
            return exp.func(
                "coalesce", exp.Anonymous(this="len", expressions=[exp.column(part)]), exp.Literal.number(0)
            )
        if call.find(exp.Distinct):
            self.wrong(
                "HR0202",
                f"{function}(DISTINCT …) is outside the SQL subset",
                call,
                "only count(DISTINCT x) has a merge",
            )
        merge = "sum" if function == "count" else cast("Merge", function)
        return exp.column(self.part(alias, f"{render(call)}{where}", merge))

    def ordered_part(self, alias: str, call: exp.Expr, node: exp.Expr) -> str:
        """arg_min and arg_max as the least or greatest of (order, lane, offset, value): ties are broken by origin."""
        value, order = render(call.this), render(call.expression)
        keep = f" AND ({render(node.expression.this)})" if isinstance(node, exp.Filter) else ""
        function = cast("Merge", function_name(call))
        struct = f"{{'k': {order}, 'lane': {self.base}._lane, 'offset': {self.base}._offset, 'v': {value}}}"
        name = self.part(
            alias,
            f"{function[4:]}({struct}) FILTER (WHERE {order} IS NOT NULL AND {value} IS NOT NULL{keep})",
            function,
        )
        self.ordered[name] = (value, order)
        return name

    def part(self, wanted: str, expression: str, merge: Merge) -> str:
        """The name of a part, the same one for the same aggregate."""
        for name, known in self.parts.items():
            if known == (expression, merge):
                return name
        taken = set(self.parts) | self.grain_names
        name = next(n for n in (wanted, *(f"{wanted}_{i}" for i in range(2, 100))) if n not in taken)
        self.parts[name] = (expression, merge)
        return name

    def build(
        self,
        select: exp.Select,
        inputs: list[str],
        grain: dict[str, exp.Expr],
        measures: dict[str, exp.Expr],
        finished: dict[str, exp.Expr],
        batch_only: str,
        records: str,
        *,
        mergeable: bool,
    ) -> Mart:
        parts = self.parts
        items = [f"{render(e)} AS {alias}" for alias, e in grain.items()]
        items += [f"{expression} AS {name}" for name, (expression, _) in parts.items()]
        tail = _tail(select)
        grouping = f" GROUP BY {', '.join(str(i + 1) for i in range(len(grain)))}" if grain else ""
        sql = f"SELECT {', '.join([*items, f'CAST({records} AS BIGINT) AS {RECORDS}'])} {tail}{grouping}"
        try:
            described = dict(self.describe(sql))
            finished_types = (
                dict(self.describe(f"SELECT {', '.join(f'{render(e)} AS {a}' for a, e in measures.items())} {tail}"))
                if measures
                else {}
            )
        except DeclarationError as error:
            raise MartErrors([located(error, self.text)]) from None
        columns = tuple(Column(alias, self.type_of(described[alias], alias), nullable=False) for alias in grain)
        typed = []
        for name, (expression, merge) in parts.items():
            if name in self.ordered:
                value, order = self.ordered[name]
                of = dict(self.describe(f"SELECT {value} AS v, {order} AS k {tail}"))
                typed.append(Part(name, merge, expression, self.type_of(of["v"], name), self.type_of(of["k"], name)))
                continue
            type = self.type_of(described[name], name)
            if merge == "sum" and described[name] == "HUGEINT":
                type = Type("BIGINT")  # the engine's cast refuses a sum that does not fit: never wrapped
            if merge == "sum" and not type.is_exact:
                self.wrong(
                    "HR0207",
                    f"part {expression} sums {type}",
                    select,
                    "declare the column as DECIMAL, or cast inside the sum",
                )
            typed.append(Part(name, merge, expression, type))
        self.stop_if_wrong()
        casts = [f"{c.name}" for c in columns]
        casts += [f"CAST({p.name} AS {p.lake_type}) AS {p.name}" for p in typed] + [RECORDS]
        parts_sql = f"SELECT {', '.join(casts)} FROM ({sql})"
        of_parts = {p.name: p.type for p in typed}
        outs = tuple(
            Measure(
                alias,
                of_parts.get(render(finished[alias])) or self.type_of(finished_types[alias], alias),
                render(finished[alias]),
            )
            for alias in measures
        )
        having = select.args.get("having")
        digest = hashlib.sha256(parts_sql.encode()).hexdigest()[:16]
        return Mart(
            self.name, doc_of(self.text.sql), self.text.sql, self.text.place.file, tuple(dict.fromkeys(inputs)), (inputs[0],), columns, tuple(typed), outs,
            render(having.this) if having is not None else "", parts_sql, digest, batch_only, mergeable,
        )  # fmt: skip

    def type_of(self, text: str, name: str) -> Type:
        type = parse_type(text)
        if type is None:
            self.wrong(
                "HR0105",
                f"'{name}' has type {text}, which a serving table cannot hold",
                None,
                f"cast it: CAST({name} AS VARCHAR)",
            )
            return Type("VARCHAR")
        if type.name == "SMALLINT":
            return Type("INTEGER")
        return type


def _inside_aggregate(node: exp.Expr) -> bool:
    parent = node.parent
    while parent is not None and not is_aggregate(parent):
        parent = parent.parent
    return parent is not None


def _tail(select: exp.Select) -> str:
    """FROM, joins and WHERE of a select."""
    pieces = [render(select.args["from_"]).strip()]
    pieces += [render(j).strip() for j in select.args.get("joins") or []]
    if select.args.get("where") is not None:
        pieces.append(render(select.args["where"]).strip())
    return " ".join(pieces)


def located(error: DeclarationError, text: Text) -> DeclarationError:
    """An engine's complaint about derived SQL, at the word of the file that it quotes."""
    for word in re.findall(r'"([A-Za-z_][A-Za-z0-9_]*)"|\b([a-z_][a-z0-9_]*)\(', error.what):
        name = word[0] or word[1]
        found = re.search(rf"\b{re.escape(name)}\b", _without_comments(text.sql))
        if found:
            return DeclarationError(
                error.code, error.what, place=text.offset(found.start(), len(name)), help=error.help
            )
    return DeclarationError(error.code, error.what, place=text.place, help=error.help)


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", lambda m: " " * len(m[0]), sql)


def check_fan_out(join: exp.Join, right: Relation, text: Text) -> list[DeclarationError]:
    """A join must find at most one row on its right: its whole key is compared, and its validity where it has one."""
    side = str(join.side).upper()
    if side in ("RIGHT", "FULL"):
        return [DeclarationError("HR0202", f"{side} JOIN is outside the SQL subset", place=text.at(join),
                                 help="start from the other table: FROM it LEFT JOIN this one")]  # fmt: skip
    using = {i.name for i in join.args.get("using") or []}
    alias = join.this.alias_or_name
    conjuncts = list(join.args["on"].flatten()) if isinstance(join.args.get("on"), exp.And) else [join.args.get("on")]
    equal, bounds = set(using), set()
    for node in conjuncts:
        while isinstance(node, exp.Paren):
            node = node.this
        if isinstance(node, exp.EQ):
            equal |= _of_one_side(node, alias)
        elif isinstance(node, (exp.GTE, exp.GT, exp.LT, exp.LTE)):
            bounds |= _of_one_side(node, alias)
    if not right.key and right.kind == "mart":
        return []  # a mart without grain is one row
    if not right.key:
        return [DeclarationError("HR0215", f"'{right.name}' has no declared key to join on", place=text.at(join),
                                 help="join references, or marts on their whole grain; aggregate events in a mart instead")]  # fmt: skip
    missing = [k for k in right.key if k not in equal and k not in (right.valid or ())]
    if missing:
        return [DeclarationError("HR0215", f"the join with '{right.name}' leaves out {', '.join(missing)} of its key", place=text.at(join),
                                 help=f"compare {', '.join(right.key)}")]  # fmt: skip
    if right.valid is not None and right.valid[0] not in equal and not set(right.valid) <= bounds:
        return [DeclarationError("HR0215", f"'{right.name}' has history: each key has several versions", place=text.at(join),
                                 help=f"add: t >= {alias}.{right.valid[0]} AND t < {alias}.{right.valid[1]}")]  # fmt: skip
    return []


def _of_one_side(node: exp.Expr, alias: str) -> set[str]:
    """The column of a table that is compared with something that is not of this table."""
    sides = (node.this, node.expression)
    return {
        mine.name
        for mine, other in (sides, sides[::-1])
        if isinstance(mine, exp.Column) and mine.table == alias
        and not any(c.table == alias for c in other.find_all(exp.Column)) and other.find(exp.Column) is not None
    }  # fmt: skip
