"""Programs that a benchmark starts, each in a process of its own: Headrace and what it is compared with."""
