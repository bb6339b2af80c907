"""Silver files: row-wise SELECTs over sources, joined to references; with windows or marts they are batch only."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from headrace.errors import DeclarationError, nearest
from headrace.model.mart import Dataset
from headrace.model.types import Column, parse_type
from headrace.sql.dialect import Text, check_nesting, check_subset, is_aggregate, parse_select, render
from headrace.sql.mart import MAY_BE_NULL, Describe, MartErrors, Relation, check_fan_out, located


def tables_of(text: Text) -> set[str]:
    """Names of the tables that a statement reads."""
    tree = parse_select(text)
    return {t.name for t in tree.find_all(exp.Table)} - {c.alias for c in tree.find_all(exp.CTE)}


def compile_dataset(name: str, text: Text, relations: Mapping[str, Relation], describe: Describe) -> Dataset:
    """Reads one silver file; raises MartErrors with all that is wrong with it."""
    tree = parse_select(text)
    if tree.find(exp.With) is not None:
        raise MartErrors([
            DeclarationError("HR0202", "WITH is not for datasets", place=text.at(tree.find(exp.With)), help="make the step a file of its own in silver/")
        ])  # fmt: skip
    errors = (
        check_subset(tree, text)
        + check_nesting(tree, text)
        + [_whole(s, text) for s in tree.find_all(exp.Select) if _cuts(s)]
    )
    if errors:
        raise MartErrors(errors)
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Func) or table.args.get("db"):
            errors.append(
                DeclarationError(
                    "HR0202",
                    f"{render(table)} is outside the SQL subset",
                    place=text.at(table),
                    help="read sources, references, datasets and marts only",
                )
            )
        elif table.name not in relations:
            errors.append(
                DeclarationError(
                    "HR0203", f"unknown table '{table.name}'", place=text.at(table), help=nearest(table.name, relations)
                )
            )
    if not errors:
        for join in tree.find_all(exp.Join):
            if isinstance(join.this, exp.Table):
                errors += check_fan_out(join, relations[join.this.name], text)
    aggregate = next((n for n in tree.walk() if is_aggregate(n)), None)
    if aggregate is not None:
        errors.append(
            DeclarationError(
                "HR0210",
                f"'{name}' aggregates: that is a mart",
                place=text.at(aggregate),
                help=f"move the file to marts/{name}.sql",
            )
        )
    if errors:
        raise MartErrors(errors)
    inputs = tuple(sorted({t.name for t in tree.find_all(exp.Table)}))
    window = tree.find(exp.Window)
    batch_only = f"a window over history (line {text.at(window).line})" if window is not None else ""
    batch_only = batch_only or next(
        (f"it reads {n}: {relations[n].batch_only}" for n in inputs if relations[n].batch_only), ""
    )
    sql = with_origin(tree)
    try:
        described = describe(sql)
    except DeclarationError as error:
        raise MartErrors([located(error, text)]) from None
    columns = []
    for column, type in described:
        if column in ("_lane", "_offset"):
            continue
        parsed = parse_type(type)
        if parsed is None:
            raise MartErrors(
                [
                    DeclarationError(
                        "HR0105",
                        f"'{column}' has type {type}",
                        place=text.place,
                        help=f"cast it: CAST({column} AS VARCHAR)",
                    )
                ]
            )
        columns.append(Column(column, parsed, _nullable(tree, column, relations)))
    joined = {id(j.this) for j in tree.find_all(exp.Join)}
    rows_from = tuple(sorted({t.name for t in tree.find_all(exp.Table) if id(t) not in joined}))
    counted = [t.name for t in tree.find_all(exp.Table) if id(t) not in joined]
    repeats = tree.find(exp.Unnest, exp.Explode) is not None or len(counted) > len(set(counted))
    # Rows of marts, of verdicts and of repeating datasets have no record of their own behind them.
    repeats = repeats or any(not relations[n].identity for n in rows_from)
    return Dataset(name, sql, text.place.file, tuple(columns), inputs, rows_from, repeats, batch_only)


def _cuts(select: exp.Select) -> bool:
    """Whether a SELECT's rows depend on other rows than their own."""
    return any(select.args.get(part) for part in ("limit", "offset", "order", "distinct", "group", "having"))


def _whole(select: exp.Select, text: Text) -> DeclarationError:
    part = next(p for p in ("limit", "offset", "order", "distinct", "group", "having") if select.args.get(p))
    return DeclarationError(
        "HR0202",
        f"{part.upper()} is not for datasets: each row follows from its own record",
        place=text.at(select.args[part] if isinstance(select.args[part], exp.Expr) else select),
        help="order and limit in a query, group in a mart; a window may number rows",
    )


def with_origin(tree: exp.Expr) -> str:
    """The statement with the origin of each row carried along, so that a cut can be taken of it too."""
    tree = tree.copy()
    for select in list(tree.find_all(exp.Select)):
        source = select.args.get("from_")
        if source is None:
            continue
        alias = source.this.alias_or_name
        # `u.*` and `*` already carry what their table has.
        starred = any(
            isinstance(e, exp.Star)
            or (isinstance(e, exp.Column) and isinstance(e.this, exp.Star) and e.table in ("", alias))
            for e in select.expressions
        )
        if not starred:
            for name in ("_lane", "_offset"):
                select.append("expressions", exp.column(name, table=alias or None))
    return render(tree)


def _nullable(tree: exp.Expr, name: str, relations: Mapping[str, Relation]) -> bool:
    """Whether a column of the statement may be NULL, as far as can be told by following names."""
    select = tree.find(exp.Select)
    if isinstance(tree, exp.Union):
        sides = [tree.this, tree.expression]
        position = (
            [s.alias_or_name for s in select.expressions].index(name)
            if select and name in [s.alias_or_name for s in select.expressions]
            else None
        )
        if position is None:
            return True
        names = [(side, _leftmost(side).expressions[position].alias_or_name) for side in sides]
        return any(_nullable(side, n, relations) for side, n in names)
    if not isinstance(tree, exp.Select):
        inner = tree.find(exp.Select)
        return _nullable(inner, name, relations) if inner is not None else True
    outer = {j.this.alias_or_name for j in tree.args.get("joins") or [] if str(j.side).upper() == "LEFT"}
    for item in tree.expressions:
        if item.alias_or_name == name and not isinstance(item, exp.Star):
            return _expression_nullable(item.unalias(), tree, relations, outer)
    tables = [tree.args["from_"].this] if tree.args.get("from_") else []
    for table in tables:
        if isinstance(table, exp.Table):
            column = relations[table.name].column(name)
            if column is not None:
                return column.nullable
        elif isinstance(table, exp.Subquery):
            return _nullable(table.this, name, relations)
    return True


def _leftmost(tree: exp.Expr) -> exp.Select:
    while isinstance(tree, (exp.Union, exp.Subquery)):
        tree = tree.this
    assert isinstance(tree, exp.Select)
    return tree


def _expression_nullable(node: exp.Expr, tree: exp.Select, relations: Mapping[str, Relation], outer: set[str]) -> bool:
    if isinstance(node, (exp.Literal, exp.Boolean)):
        return False
    if isinstance(node, exp.Coalesce):
        return all(_expression_nullable(e, tree, relations, outer) for e in (node.this, *node.expressions))
    if isinstance(node, (*MAY_BE_NULL, exp.Case, exp.Explode, exp.Anonymous)):
        return not isinstance(node, exp.Explode)
    if isinstance(node, exp.Column):
        if node.table in outer:
            return True
        tables = [tree.args["from_"].this, *(j.this for j in tree.args.get("joins") or [])]
        for table in tables:
            if node.table in ("", table.alias_or_name):
                if isinstance(table, exp.Table):
                    column = relations[table.name].column(node.name)
                    if column is not None:
                        return column.nullable
                elif isinstance(table, exp.Subquery):
                    return _nullable(table.this, node.name, relations)
        return True
    return any(
        _expression_nullable(c, tree, relations, outer)
        for c in node.iter_expressions()
        if not isinstance(c, (exp.DataType, exp.Var))
    )
