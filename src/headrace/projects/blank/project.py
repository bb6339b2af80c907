"""A shop's till receipts."""

from headrace import Project, csv, line

project = Project("shop")
sales = project.source(
    "sales",
    csv("sales_*.csv"),
    id="sale_id",
    event_time="sold_at",
    columns={
        "sale_id": "VARCHAR",
        "sold_at": "TIMESTAMPTZ NOT NULL",
        "shop": "VARCHAR NOT NULL",
        "amount": "DECIMAL(18,4)",
    },
)
sales.rule("amount >= 0", "negative amount")
sales.flag("amount > 10000", "unusually large")
project.page("Sales", line("sales", x="day", y="revenue"), **{"shop": "cpt1", "from": "2024-01-01", "to": "2024-01-07"})
