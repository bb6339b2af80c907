"""Independent oracles: plain SQL over the raw files, with no import from the product."""
