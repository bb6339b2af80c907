"""Reading SQL: the only place that imports sqlglot. Marts into parts and finishers, queries into serving tables."""
