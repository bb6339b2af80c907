"""SQL that goes back from serving keys to the records behind them."""

from __future__ import annotations

from sqlglot import exp

from headrace.errors import Place
from headrace.model.mart import Mart
from headrace.model.serving import ServingTable
from headrace.sql.dialect import Text, parse_select, render
from headrace.sql.gold import stored


def trace_sql(mart: Mart | None, table: ServingTable) -> str:
    """Origins (_lane, _offset) of the rows that the mart (or the dataset itself) counts under the keys in ``asked``.

    A mart that reads other marts counts no records of its own beyond those of its FROM.
    """
    key = [c.name for c in table.key]
    if mart is None:
        keyed = ", ".join(f"{stored(c.name, c.type)} AS {c.name}" for c in table.key)
        using = f" SEMI JOIN _asked USING ({', '.join(key)})" if key else ""
        return f"SELECT _lane, _offset FROM (SELECT {keyed}{', ' if keyed else ''}_lane, _offset FROM {table.origin}){using}"
    tree = parse_select(Text(mart.sql, Place(mart.file)))
    assert isinstance(tree, exp.Select)
    alias = tree.args["from_"].this.alias_or_name
    grain = {item.alias_or_name: item.unalias() for item in tree.expressions}
    columns = [f"{stored(f'({render(grain[c.name])})', c.type)} AS {c.name}" for c in table.key]
    columns += [f"{alias}._lane AS _lane", f"{alias}._offset AS _offset"]
    pieces = [render(tree.args["from_"]).strip(), *(render(j).strip() for j in tree.args.get("joins") or [])]
    if tree.args.get("where") is not None:
        pieces.append(render(tree.args["where"]).strip())
    using = f" SEMI JOIN _asked USING ({', '.join(key)})" if key else ""
    return f"SELECT _lane, _offset FROM (SELECT {', '.join(columns)} {' '.join(pieces)}){using}"
