-- Everything that was found of every landed record: landed, its verdict, repairs and flags; by its own contract and
-- beside the organisation and resource it names.
SELECT source, day, kind, reason FROM verdicts
UNION ALL
SELECT source, day, 'flagged' AS kind, reason FROM cross_checks
