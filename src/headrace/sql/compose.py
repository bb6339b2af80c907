"""Reading a query: one SELECT over one mart, or several, each rolling up a mart of its own, then joined; and windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from headrace.errors import DeclarationError, nearest
from headrace.model.mart import Mart
from headrace.model.serving import Parameter
from headrace.model.types import Column, Type, parse_type
from headrace.sql.body import define_all
from headrace.sql.dialect import Text, check_subset, function_name, is_aggregate, parse_select, render
from headrace.sql.evaluate import EXACT, Code, Evaluator, finished
from headrace.sql.mart import MartErrors, Relation
from headrace.sql.query import Compiler, Fetch, Plan, Query, conjuncts, note_zones, refuse_null_order

Rows = Iterable[tuple[Any, ...]]
WINDOWS = {"sum", "min", "max", "count", "row_number", "rank"}


@dataclass(slots=True)
class Stage:
    """One SELECT over one mart, its rows not yet finished; ``key`` are the columns on which they are unique."""

    alias: str
    plan: Plan
    columns: tuple[Column, ...]
    key: tuple[str, ...]


def compile_query(name: str, text: Text, marts: Mapping[str, Mart], relations: Mapping[str, Relation]) -> Query:
    """Reads one query; raises MartErrors with all that is wrong with it."""
    tree = parse_select(text)
    errors = check_subset(tree, text, extra=frozenset({"at time zone"}))
    if errors:
        raise MartErrors(errors)
    compiler = Compiler(name, text, marts, relations, {})
    if not isinstance(tree, exp.Select):
        raise compiler.error("HR0211", "a query is one SELECT", tree, "write UNION ALL in silver/*.sql")
    try:
        if tree.args.get("with_") or tree.find(exp.Window) or _joins_marts(tree, marts):
            return _Composer(compiler, tree).query()
        return compiler.select(tree)
    except DeclarationError as error:
        raise MartErrors([error]) from None


def _joins_marts(tree: exp.Select, marts: Mapping[str, Mart]) -> bool:
    return any(isinstance(j.this, exp.Table) and j.this.name in marts for j in tree.args.get("joins") or [])


class _Composer:
    def __init__(self, compiler: Compiler, tree: exp.Select) -> None:
        self.c = compiler
        if not tree.args.get("with_") and not _joins_marts(tree, compiler.marts):
            tree = _windows_apart(tree)
        self.tree = tree
        self.ctes = {cte.alias: cte.this for cte in tree.args["with_"].expressions} if tree.args.get("with_") else {}
        self.stages: list[Stage] = []
        self.pairs: list[list[tuple[exp.Expr, exp.Expr]]] = []
        self.inner: list[bool] = []
        self.windows: list[str] = []
        self.validations: list[tuple[str, Callable[[Mapping[str, Any]], bool | None]]] = []

    def wrong(self, code: str, what: str, node: exp.Expr | None, help: str) -> DeclarationError:
        return DeclarationError(code, what, place=self.c.text.at(node), help=help)

    def query(self) -> Query:
        base = self.tree.args["from_"].this if self.tree.args.get("from_") else None
        if not isinstance(base, exp.Table) or base.name not in self.ctes:
            raise self.wrong(
                "HR0211",
                "joining marts first multiplies their rows",
                base,
                "roll each mart up: WITH a AS (SELECT … GROUP BY …) SELECT … FROM a LEFT JOIN …",
            )
        for cte in self.ctes.values():
            if not isinstance(cte, exp.Select):
                raise self.wrong(
                    "HR0211", "a WITH holds SELECTs over one mart each", cte, "write UNION ALL in silver/*.sql"
                )
        self.add_stage(base.alias_or_name, self.ctes[base.name])
        for join in self.tree.args.get("joins") or []:
            self.add_join(join)
        limit, fixed = self.c.read_limit(self.tree.args.get("limit"))
        source, columns = self.outer()
        outer = define_all(source)["outer"]
        first, *rest = self.stages
        stages = self.stages

        def finish(rows: Rows, p: Mapping[str, Any], looked: Sequence[Any], *others: Rows) -> list[tuple[Any, ...]]:
            fetched = [rows, *others]
            raw = [s.plan.finish(fetched[i], p, looked if i == 0 else ()) for i, s in enumerate(stages)]
            done: list[tuple[Any, ...]] = outer(raw, p)
            return done

        others = tuple(
            Fetch(s.plan.table, s.plan.partitions, s.plan.bounds, s.plan.picked, s.plan.bounded) for s in rest
        )
        told = "\n".join([*(f"# {s.alias}\n{s.plan.source}" for s in stages), source])
        plan = Plan(first.plan.table, first.plan.partitions, first.plan.bounds, first.plan.lookups, finish,
                    in_key_order=False, reverse=first.plan.reverse, source=told, others=others,
                    picked=first.plan.picked, bounded=first.plan.bounded)  # fmt: skip
        self.c.base = first.plan.table.origin
        return self.c.query({frozenset(): plan}, columns, tuple(self.validations), limit, fixed)

    def add_stage(self, alias: str, select: exp.Select) -> None:
        one = Compiler(self.c.name, self.c.text, self.c.marts, self.c.relations, self.c.parameters)
        found, _, fixed_limit = one.read(select)
        if fixed_limit is not None or select.args.get("limit"):
            raise self.wrong("HR0211", "LIMIT belongs to the last SELECT", select, "move it there, with its ORDER BY")
        if found.validations and self.stages:
            raise self.wrong(
                "HR0211",
                "a condition of parameters only belongs in the first SELECT",
                found.validations[0],
                "move it to the first WHERE",
            )
        self.validations += [(render(v), one.condition(v)) for v in found.validations]
        if one.joins and self.stages:
            raise self.wrong(
                "HR0211", "only the first SELECT can join references", select, "join them in the first WITH"
            )
        plan, columns = one.plan(found, frozenset(), [], raw=True)
        fixed = set(found.equal)
        if one.aggregated:
            key = [n for n, e in one.outputs.items() if not any(is_aggregate(x) for x in e.walk())]
        else:
            grain = [g.name for g in one.mart.grain] if one.mart else list(self.c.relations[one.base].key)
            named = {e.name: n for n, e in one.outputs.items() if isinstance(e, exp.Column)}
            key = [named.get(g, g) for g in grain if g not in fixed]
        self.stages.append(Stage(alias, plan, columns, tuple(key)))

    def add_join(self, join: exp.Join) -> None:
        right = join.this
        alias = right.alias_or_name
        side = str(join.side).upper()
        if (
            not isinstance(right, exp.Table)
            or side not in ("LEFT", "")
            or str(join.args.get("kind") or "").upper() == "CROSS"
        ):
            raise self.wrong(
                "HR0211",
                f"{render(join)} is not a join of rolled up marts",
                join,
                "LEFT JOIN or JOIN on the columns of GROUP BY",
            )
        tests = conjuncts(join.args.get("on"))
        own = [t for t in tests if all(c.table == alias for c in t.find_all(exp.Column))]
        if right.name in self.ctes:
            select = self.ctes[right.name]
        elif right.name in self.c.marts:
            tests = [t for t in tests if t not in own]
            select = self.own_rows(right, own)
        else:
            raise self.wrong(
                "HR0203",
                f"'{right.name}' is neither a WITH of this query nor a mart",
                right,
                nearest(right.name, [*self.ctes, *self.c.marts]),
            )
        self.add_stage(alias, select)
        stage = self.stages[-1]
        pairs: list[tuple[exp.Expr, exp.Expr]] = [
            (exp.column(i.name, table=alias), exp.column(i.name, table=self.stages[0].alias))
            for i in join.args.get("using") or []
        ]
        for test in tests:
            sides = [test.this, test.expression] if isinstance(test, exp.EQ) else []
            mine = next((s for s in sides if isinstance(s, exp.Column) and s.table == alias), None)
            if mine is None:
                raise self.wrong(
                    "HR0211",
                    f"{render(test)} is not an equality of the joined rows",
                    test,
                    "move ranges of parameters into its SELECT",
                )
            pairs.append((mine, sides[1] if mine is sides[0] else sides[0]))
        missing = [k for k in stage.key if k not in {m.name for m, _ in pairs}]
        if missing:
            raise self.wrong(
                "HR0215",
                f"the join with '{alias}' leaves out {', '.join(missing)}",
                join,
                f"compare {', '.join(stage.key)}",
            )
        self.pairs.append(pairs)
        self.inner.append(side == "")

    def own_rows(self, table: exp.Table, tests: list[exp.Expr]) -> exp.Select:
        """The SELECT that stands for a mart joined by name: its own rows under the conditions on it alone."""
        alias = table.alias_or_name
        used = {c.name for c in self.tree.find_all(exp.Column) if c.table == alias}
        mart = self.c.marts[table.name]
        names = [g.name for g in mart.grain] + [m.name for m in mart.measures if m.name in used]
        select = exp.select(*[exp.column(n) for n in names]).from_(exp.to_table(table.name))
        for test in tests:
            test = test.copy()
            for column in test.find_all(exp.Column):
                column.set("table", None)
            select = select.where(test)
        return select

    # The last SELECT

    def column(self, node: exp.Column) -> Code:
        for i, stage in enumerate(self.stages):
            if node.table in ("", stage.alias):
                for at, column in enumerate(stage.columns):
                    if column.name == node.name:
                        source = f"r0[{at}]" if i == 0 else f"(r{i}[{at}] if r{i} else None)"
                        return Code(source, column.type)
        known = [f"{s.alias}.{c.name}" for s in self.stages for c in s.columns]
        raise self.wrong("HR0204", f"no column '{render(node)}' here", node, nearest(render(node), known))

    def window(self, evaluator: Evaluator, node: exp.Window) -> Code:
        kind = function_name(node.this) or ""
        if kind not in WINDOWS or node.args.get("spec"):
            raise self.wrong(
                "HR0202",
                f"{render(node)} cannot be computed when answering",
                node,
                "one of " + ", ".join(sorted(WINDOWS)) + ", without a frame",
            )
        order = node.args["order"].expressions if node.args.get("order") else []
        parts = "".join(f"{evaluator.compile(p).source}, " for p in node.args.get("partition_by") or [])
        keys = "".join(f"{(evaluator.compile(o.this).number or evaluator.compile(o.this)).source}, " for o in order)
        argument = (
            node.this.this
            if isinstance(node.this.this, exp.Expr) and not isinstance(node.this.this, exp.Star)
            else None
        )
        value = evaluator.compile(argument) if argument is not None else Code("1", Type(EXACT))
        value = value.number or value
        descending = "".join(f"{bool(o.args.get('desc'))}, " for o in order)
        self.windows.append(
            f"windowed({kind!r}, [(({parts}), ({keys}), {value.source}) for {self.row} in joined], ({descending}))"
        )
        counted = kind in ("count", "row_number", "rank")
        return Code(f"w[{len(self.windows) - 1}][i]", Type("BIGINT") if counted else value.type)

    @property
    def row(self) -> str:
        return "(" + "".join(f"r{i}, " for i in range(len(self.stages))) + ")"

    def outer(self) -> tuple[str, tuple[Column, ...]]:
        tree = self.tree
        plain = Evaluator(self.c.text, self.column, self.c.parameter)
        evaluator = _WindowEvaluator(self.c.text, self.column, self.c.parameter)
        evaluator.window = lambda node: self.window(plain, node)
        outputs = {item.alias_or_name: item.unalias() for item in tree.expressions}
        if any(is_aggregate(n) for e in outputs.values() for n in e.walk()) or tree.args.get("group"):
            raise self.wrong(
                "HR0211", "the last SELECT over rolled up marts does not aggregate", tree, "aggregate in the WITH"
            )
        for unwanted in ("offset", "distinct", "qualify", "having"):
            if tree.args.get(unwanted):
                raise self.wrong(
                    "HR0211", f"{unwanted.upper()} is not for the last SELECT", tree, "write WHERE; pages go by cursor"
                )
        refuse_null_order(tree, self.wrong)
        note_zones(tree, self.c.parameters)
        for place in tree.find_all(exp.Placeholder):
            cast = place.parent
            if isinstance(cast, exp.Cast):
                type = parse_type(cast.to.sql(dialect="duckdb"))
                if type is not None:
                    self.c.parameters.setdefault(str(place.this), Parameter(str(place.this), type))
        tests = [
            f"({plain.compile(t).source}) is True"
            for t in conjuncts(tree.args["where"].this if tree.args.get("where") else None)
        ]
        codes = {alias: evaluator.compile(node) for alias, node in outputs.items()}
        order = []
        for item in tree.args["order"].expressions if tree.args.get("order") else []:
            named = codes.get(item.this.name) if isinstance(item.this, exp.Column) and not item.this.table else None
            code = named or evaluator.compile(item.this)
            order.append(((code.number or code).source, bool(item.args.get("desc"))))
        lines = ["def outer(stages, p):"]
        loop = []
        for i, (pairs, inner) in enumerate(zip(self.pairs, self.inner, strict=True), 1):
            mine = "".join(f"r{i}[{[c.name for c in self.stages[i].columns].index(m.name)}], " for m, _ in pairs)
            theirs = "".join(f"{plain.compile(t).source}, " for _, t in pairs)
            lines.append(f"    index{i} = {{({mine}): r{i} for r{i} in stages[{i}]}}")
            loop.append(f"r{i} = index{i}.get(({theirs}))")
            if inner:
                loop.append(f"if r{i} is None: continue")
        if tests:
            loop.append(f"if not ({' and '.join(tests)}): continue")
        lines += [
            "    joined = []",
            "    for r0 in stages[0]:",
            *(f"        {line}" for line in loop),
            f"        joined.append({self.row})",
        ]
        lines.append(f"    w = [{', '.join(self.windows)}]")
        done = "".join(f"{finished(c).source}, " for c in codes.values())
        raw = "".join(f"{source}, " for source, _ in order)
        lines.append(f"    out = [({done}{raw}) for i, {self.row} in enumerate(joined)]")
        if order:
            spec = [(len(codes) + n, descending) for n, (_, descending) in enumerate(order)]
            lines.append(f"    return [o[:{len(codes)}] for o in ordered(out, {spec!r})]")
        else:
            lines.append("    return out")
        columns = tuple(Column(alias, finished(code).type) for alias, code in codes.items())
        return "\n".join(lines) + "\n", columns


class _WindowEvaluator(Evaluator):
    """An evaluator that knows window functions."""

    window: Callable[[exp.Window], Code]

    def compile(self, node: exp.Expr) -> Code:
        return self.window(node) if isinstance(node, exp.Window) else super().compile(node)


def _windows_apart(tree: exp.Select) -> exp.Select:
    """``SELECT …, f(…) OVER (…) FROM mart …`` as a WITH that rolls up and a last SELECT that has the windows."""
    inner, outer = tree.copy(), exp.Select()
    hidden: dict[str, exp.Expr] = {}
    names = {render(item.unalias()): item.alias_or_name for item in tree.expressions if not item.find(exp.Window)}

    def named(node: exp.Expr) -> exp.Expr:
        """The column of the inner SELECT that holds an expression."""
        if isinstance(node, exp.Column) and not node.table and node.name in {i.alias_or_name for i in tree.expressions}:
            return exp.column(node.name)
        text = render(node)
        if text not in names:
            names[text] = f"w{len(hidden)}_"
            hidden[names[text]] = node.copy()
        return exp.column(names[text])

    items = []
    for item in tree.expressions:
        if not item.find(exp.Window):
            items.append(exp.column(item.alias_or_name))
            continue
        item = item.copy()
        for window in item.find_all(exp.Window):
            call = window.this
            if isinstance(call.this, exp.Expr) and not isinstance(call.this, exp.Star):
                call.set("this", named(call.this))
            window.set("partition_by", [named(p) for p in window.args.get("partition_by") or []])
            for ordered in window.args["order"].expressions if window.args.get("order") else []:
                ordered.set("this", named(ordered.this))
        items.append(item)
    kept = [item.copy() for item in tree.expressions if not item.find(exp.Window)]
    kept += [exp.alias_(node, alias) for alias, node in hidden.items()]
    inner.set("expressions", kept)
    for moved in ("order", "limit"):
        inner.set(moved, None)
        if tree.args.get(moved):
            outer.set(moved, tree.args[moved].copy())
    outer.set("expressions", items)
    outer = outer.from_("rolled_up")
    return outer.with_("rolled_up", as_=inner)
