"""The Python that finishes an answer: filter, look up, group, merge, finish, sort. Generated once for each plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sqlglot import exp

from headrace.errors import DeclarationError, nearest
from headrace.model.mart import Mart, Part
from headrace.model.serving import ServingTable
from headrace.model.types import Column, Type
from headrace.sql import arithmetic
from headrace.sql.dialect import Text, function_name, parse_expression, render
from headrace.sql.evaluate import EXACT, Code, Evaluator, finished, stored_code
from headrace.sql.mart import Relation

Join = tuple[Relation, dict[str, exp.Expr], list[exp.Expr]]
"""A joined reference, what each column of its key is compared with, and the conditions that are left."""


class Reading(Protocol):
    """What one SELECT asks for."""

    text: Text
    base: str
    mart: Mart | None
    relations: Mapping[str, Relation]
    joins: dict[str, Join]
    outputs: dict[str, exp.Expr]
    aggregated: bool
    group: list[exp.Expr]
    order: list[tuple[exp.Expr, bool]]
    having: exp.Expr | None

    def parameter(self, node: exp.Expr, name: str) -> Code: ...


class Body:
    """The generated ``finish`` of a plan: filter, look up, group, finish, sort, cut."""

    def __init__(
        self, reading: Reading, table: ServingTable, residual: list[exp.Expr], *, in_order: bool, raw: bool
    ) -> None:
        self.c = reading
        self.table = table
        self.residual = residual
        self.in_order = in_order
        self.finished = (lambda code: code) if raw else finished
        self.index = {name: i for i, name in enumerate(table.columns)}
        self.types = {c.name: c.type for c in table.key} | {p.name: p.type for p in table.parts}
        self.accumulators: dict[tuple[str, str], int] = {}
        self.updates: list[str] = []
        self.lookup_tables: list[ServingTable] = []
        self.columns: tuple[Column, ...] = ()
        self.source = ""

    def no_column(self, node: exp.Column) -> Code:
        raise DeclarationError(
            "HR0211",
            f"{node.name} cannot be used here",
            place=self.c.text.at(node),
            help="use parameters and literals only",
        )

    def unknown(self, node: exp.Column) -> DeclarationError:
        mart = self.c.mart
        known = (
            [g.name for g in mart.grain] + [m.name for m in mart.measures]
            if mart
            else [c.name for c in self.c.relations[self.c.base].columns]
        )
        return DeclarationError(
            "HR0204",
            f"'{self.c.base}' has no column '{node.name}'",
            place=self.c.text.at(node),
            help=nearest(node.name, known),
        )

    def of_row(self, node: exp.Column) -> Code:
        """A column of a fetched row ``r``, of a looked-up row ``l``, or a measure finished from the row's own parts."""
        if node.table in self.c.joins:
            position = list(self.c.joins).index(node.table)
            relation = self.c.joins[node.table][0]
            column = relation.column(node.name)
            if column is None:
                raise DeclarationError("HR0204", f"'{relation.name}' has no column '{node.name}'", place=self.c.text.at(node),
                                       help=nearest(node.name, [c.name for c in relation.columns]))  # fmt: skip
            at = self.lookup_tables[position].columns.index(node.name)
            return stored_code(f"(l{position}[{at}] if l{position} else None)", column.type)
        if node.name in self.index and (self.c.mart is None or self.c.mart.grain_column(node.name)):
            return stored_code(f"r[{self.index[node.name]}]", self.types[node.name])
        measure = self.c.mart.measure(node.name) if self.c.mart else None
        if measure is None:
            raise self.unknown(node)
        inner = Evaluator(self.c.text, self.stored_part, self.c.parameter)
        return inner.compile(parse_expression(Text(measure.finisher, self.c.text.place)))

    def stored_part(self, node: exp.Column) -> Code:
        part = next(p for p in self.table.parts if p.name == node.name)
        source = f"r[{self.index[part.name]}]"
        if part.by is not None:
            return stored_code(f"chosen(ordered_value({source}))", part.type)
        return Code(f"members({source})", part.type) if part.merge == "set" else stored_code(source, part.type)

    def build(self) -> None:
        for relation, _, rest in self.c.joins.values():
            self.lookup_tables.append(self.lookup_table(relation, rest))
        row = Evaluator(self.c.text, self.of_row, self.c.parameter)
        lines = ["def finish(rows, p, looked):"]
        lines += self.lookup_lines(row)
        tests = [f"({row.compile(n).source}) is True" for n in self.residual]
        if self.c.mart is not None and self.c.mart.having:
            having = parse_expression(Text(self.c.mart.having, self.c.text.place))
            tests.append(f"({row.compile(having).source}) is True")
        loop = [f"if not ({' and '.join(tests)}): continue"] if tests else []
        if self.c.aggregated:
            lines += self.grouped(row, loop)
        else:
            lines += self.plain(row, loop)
        self.source = self.key_functions() + "\n".join(lines) + "\n"

    def lookup_table(self, relation: Relation, rest: list[exp.Expr]) -> ServingTable:
        alias = next(a for a, j in self.c.joins.items() if j[0] is relation and j[2] is rest)
        everything = [*self.c.outputs.values(), *self.c.group, *(o for o, _ in self.c.order), *self.residual, *rest]
        used = {c.name for e in everything for c in e.find_all(exp.Column) if c.table == alias}
        clustering = tuple(c for c in relation.columns if relation.valid and c.name == relation.valid[0])
        key = tuple(c for c in relation.columns if c.name in relation.key and c not in clustering)
        parts = tuple(
            Part(c.name, "value", c.name, c.type)
            for c in relation.columns
            if c.name in used and c not in (*key, *clustering)
        )
        shape = (
            relation.name,
            [str(c) for c in key],
            [str(c) for c in clustering],
            [(p.name, str(p.type)) for p in parts],
        )
        digest = hashlib.sha256(repr(shape).encode()).hexdigest()[:8]
        return ServingTable(
            f"{relation.name}_{digest}", relation.name, of_mart=False, partition=key, clustering=clustering, parts=parts
        )

    def key_of(self, position: int) -> str:
        _, pairs, _ = list(self.c.joins.values())[position]
        row = Evaluator(self.c.text, self.of_row, self.c.parameter)
        table = self.lookup_tables[position]
        return "(" + "".join(f"{row.compile(pairs[c.name]).source}, " for c in table.partition) + ")"

    def key_functions(self) -> str:
        return "".join(
            f"def keys{i}(rows, p): return {{{self.key_of(i)} for r in rows}}\n" for i in range(len(self.lookup_tables))
        )

    def lookup_lines(self, row: Evaluator) -> list[str]:
        lines = []
        for i, (_, _, rest) in enumerate(self.c.joins.values()):
            tests = " and ".join(f"({row.compile(n).source}) is True" for n in rest) or "True"
            lines.append(
                f"    def find{i}(r): return next((l{i} for l{i} in looked[{i}].get({self.key_of(i)}, ()) if {tests}), None)"
            )
        return lines

    def finds(self) -> list[str]:
        return [f"l{i} = find{i}(r)" for i in range(len(self.lookup_tables))]

    def plain(self, row: Evaluator, loop: list[str]) -> list[str]:
        codes = {alias: row.compile(node) for alias, node in self.c.outputs.items()}
        self.note_columns(codes)
        keys = self.sort_keys(row, codes)
        done = "".join(f"{self.finished(c).source}, " for c in codes.values())
        raw = "".join(f"{code.source}, " for code, _ in keys)
        lines = []
        if not loop and not self.lookup_tables:
            lines.append(f"    out = [({done}{raw}) for r in rows]")
        else:
            lines += ["    out = []", "    for r in rows:"]
            lines += [f"        {line}" for line in (*self.finds(), *loop, f"out.append(({done}{raw}))")]
        return lines + self.sorting(len(codes), keys)

    def grouped(self, row: Evaluator, loop: list[str]) -> list[str]:
        keys = {render(g): row.compile(g) for g in self.c.group}
        positions = {sql: i for i, sql in enumerate(keys)}

        def of_group(node: exp.Column) -> Code:
            found = keys.get(render(node))
            if found is None:
                found = next((c for sql, c in keys.items() if sql.split(".")[-1] == node.name and not node.table), None)
                sql = next((s for s in keys if s.split(".")[-1] == node.name), "")
            else:
                sql = render(node)
            if found is None:
                if self.c.mart and self.c.mart.measure(node.name):
                    raise DeclarationError("HR0211", f"'{node.name}' is neither grouped nor aggregated", place=self.c.text.at(node),
                                           help=f"measure({node.name}) AS {node.name}")  # fmt: skip
                if self.c.mart and self.c.mart.grain_column(node.name):
                    raise DeclarationError(
                        "HR0211",
                        f"'{node.name}' is neither grouped nor aggregated",
                        place=self.c.text.at(node),
                        help="add it to GROUP BY",
                    )
                raise self.unknown(node)
            return Code(f"k[{positions[sql]}]", found.type)

        group = _GroupEvaluator(
            self.c.text,
            of_group,
            self.c.parameter,
            self.aggregate,
            {s: Code(f"k[{i}]", keys[s].type) for s, i in positions.items()},
        )
        codes = {alias: group.compile(node) for alias, node in self.c.outputs.items()}
        self.note_columns(codes)
        having = (
            [f"if ({group.compile(self.c.having).source}) is not True: continue"] if self.c.having is not None else []
        )
        order = self.sort_keys(group, codes)
        key = "(" + "".join(f"{c.source}, " for c in keys.values()) + ")"
        lines = ["    groups = {}"] if self.c.group else [f"    groups = {{(): [None] * {len(self.accumulators)}}}"]
        lines += ["    for r in rows:"]
        body = [*self.finds(), *loop, f"a = groups.setdefault({key}, None)"]
        body += [f"if a is None: a = groups[{key}] = [None] * {len(self.accumulators)}", *self.updates]
        lines += [f"        {line}" for line in body]
        done = "".join(f"{self.finished(c).source}, " for c in codes.values())
        raw = "".join(f"{code.source}, " for code, _ in order)
        lines += ["    out = []", "    for k, a in groups.items():"]
        lines += [f"        {line}" for line in (*having, f"out.append(({done}{raw}))")]
        return lines + self.sorting(len(codes), order)

    def aggregate(self, node: exp.Expr) -> Code:
        """An aggregate of a query: an accumulator that merges parts, or counts."""
        call = node.this if isinstance(node, exp.Filter) else node
        only = node.expression.this if isinstance(node, exp.Filter) else None
        function = function_name(call)
        row = Evaluator(self.c.text, self.of_row, self.c.parameter)
        guard = f"if ({row.compile(only).source}) is True: " if only is not None else ""
        if function == "count" and isinstance(call.this, exp.Distinct):
            value = row.compile(call.this.expressions[0]).source
            add = f"a[{{0}}] = merge_set(a[{{0}}], frozenset((v,) if (v := {value}) is not None else ()))"
            at = self.accumulator("distinct" + guard + value, guard + add)
            return Code(f"(length(a[{at}]) or 0)", Type("BIGINT"))
        if function == "count":
            one = "1" if isinstance(call.this, exp.Star) else f"int({row.compile(call.this).source} is not None)"
            at = self.accumulator("count" + guard + one, f"{guard}a[{{0}}] = merge_sum(a[{{0}}], {one})")
            return Code(f"(a[{at}] or 0)", Type("BIGINT"))
        argument = call.expressions[0] if isinstance(call, exp.Anonymous) else call.this
        grain = self.c.mart.grain_column(argument.name) if self.c.mart and isinstance(argument, exp.Column) else None
        if function in ("min", "max") and (grain is not None or self.c.mart is None):
            code = row.compile(argument)
            at = self.accumulator(
                f"{function}{guard}{code.source}", f"{guard}a[{{0}}] = merge_{function}(a[{{0}}], {code.source})"
            )
            return Code(f"a[{at}]", code.type)
        if self.c.mart is None:
            raise DeclarationError(
                "HR0211",
                "a query over rows does not aggregate",
                place=self.c.text.at(node),
                help="aggregate in a mart, and query the mart",
            )
        if not isinstance(argument, exp.Column) or self.c.mart.measure(argument.name) is None:
            if isinstance(argument, exp.Column) and grain is None:
                raise self.unknown(argument)
            raise DeclarationError("HR0212", f"{render(node)} aggregates something else than a measure", place=self.c.text.at(node),
                                   help="aggregate columns in the mart; in a query write measure(column)")  # fmt: skip
        measure = self.c.mart.measure(argument.name)
        assert measure is not None
        tree = parse_expression(Text(measure.finisher, self.c.text.place))
        if function != "measure":
            part = next((p for p in self.c.mart.parts if isinstance(tree, exp.Column) and p.name == tree.name), None)
            through = tree.this if isinstance(tree, exp.Coalesce) and isinstance(tree.this, exp.Column) else tree
            part = part or next(
                (p for p in self.c.mart.parts if isinstance(through, exp.Column) and p.name == through.name), None
            )
            if part is None or part.merge != function:
                raise DeclarationError("HR0212", f"{render(node)} aggregates a finished value again", place=self.c.text.at(node),
                                       help=f"measure({argument.name})")  # fmt: skip
        inner = Evaluator(self.c.text, lambda column: self.merged_part(column.name, guard), self.c.parameter)
        return inner.compile(tree)

    def merged_part(self, name: str, guard: str) -> Code:
        part = next(p for p in self.table.parts if p.name == name)
        source = f"r[{self.index[name]}]"
        if part.merge == "set":
            at = self.accumulator("set" + guard + name, f"{guard}a[{{0}}] = merge_set(a[{{0}}], members({source}))")
            return Code(f"a[{at}]", part.type)
        if part.by is not None:
            first = "exact(k)" if part.by.name == "DECIMAL" else "k"
            update = f"a[{{0}}] = merge_{part.merge[4:]}(a[{{0}}], ordered_value({source}, lambda k: {first}))"
            return stored_code(f"chosen(a[{self.accumulator(part.merge + guard + name, guard + update)}])", part.type)
        type = part.type
        if type.name == "DECIMAL":
            source, type = f"exact({source})", Type(EXACT, scale=type.scale)
        how = {
            "sum": "merge_sum",
            "min": "merge_min",
            "max": "merge_max",
            "bool_or": "merge_max",
            "bool_and": "merge_min",
        }.get(part.merge, "merge_sum")
        if part.merge == "value":
            how = "merge_one"
        at = self.accumulator(part.merge + guard + name, f"{guard}a[{{0}}] = {how}(a[{{0}}], {source})")
        return stored_code(f"a[{at}]", type)

    def accumulator(self, key: str, update: str) -> int:
        known = self.accumulators.get((key, ""))
        if known is None:
            known = self.accumulators[(key, "")] = len(self.accumulators)
            self.updates.append(update.format(known))
        return known

    def note_columns(self, codes: Mapping[str, Code]) -> None:
        self.columns = tuple(Column(alias, self.finished(code).type) for alias, code in codes.items())

    def sort_keys(self, evaluator: Evaluator, codes: Mapping[str, Code]) -> list[tuple[Code, bool]]:
        """Codes to sort by; none where the fetch's own order is the answer's."""
        if self.in_order:
            return []
        keys = []
        for node, descending in self.c.order:
            named = codes.get(node.name) if isinstance(node, exp.Column) and not node.table else None
            code = named or evaluator.compile(node)
            keys.append((code.number or code, descending))
        return keys

    def sorting(self, width: int, keys: list[tuple[Code, bool]]) -> list[str]:
        if not keys:
            return ["    return out"]
        spec = "[" + ", ".join(f"({width + i}, {descending})" for i, (_, descending) in enumerate(keys)) + "]"
        return [f"    return [o[:{width}] for o in ordered(out, {spec})]"]


class _GroupEvaluator(Evaluator):
    """An evaluator for which a grouped expression is a leaf."""

    def __init__(
        self,
        text: Text,
        column: Callable[[exp.Column], Code],
        parameter: Callable[[exp.Expr, str], Code],
        aggregate: Callable[[exp.Expr], Code],
        keys: Mapping[str, Code],
    ) -> None:
        super().__init__(text, column, parameter, aggregate)
        self.keys = keys

    def compile(self, node: exp.Expr) -> Code:
        return self.keys.get(render(node)) or super().compile(node)


def define_all(source: str) -> dict[str, Callable[..., Any]]:
    scope: dict[str, Any] = {name: value for name, value in vars(arithmetic).items() if not name.startswith("_")}
    # The source is generated from a checked syntax tree: literals by repr(), names by position.
    exec(compile(source, "<headrace query>", "exec"), scope)  # noqa: S102
    return scope
