"""A week of receipts of two shops."""

from headrace import Samples


def generate(samples: Samples) -> None:
    samples.csv(
        "sales_2024-01.csv",
        """
        SELECT 's' || i AS sale_id, strftime(TIMESTAMP '2024-01-01 08:00:00' + INTERVAL 1 HOUR * i, '%Y-%m-%dT%H:%M:%SZ') AS sold_at,
               pick('shop', i, ['cpt1', 'jhb1']) AS shop, round(5 + 95 * u('amount', i), 2) AS amount
        FROM range(168) AS t(i) ORDER BY i""",
    )
