-- Whether tokens explain what a GenAI event costs. Open: they do not (correlation near 0).
SELECT correlation, events FROM genai_price_check
