-- Whether tokens explain what a GenAI event costs: the correlation of the two over clean events with tokens, from -1 to 1.
-- Near 0, a cost per million tokens is a ratio of two totals and no price. NULL where nothing varies.
SELECT TRY_CAST(corr(CAST(cost_usd AS DOUBLE), CAST(genai_tokens AS DOUBLE)) AS DECIMAL(9,4)) AS correlation, count(*) AS events
FROM usage_events WHERE schema_version = 2 AND genai_tokens > 0
