"""Frozen nouns of a project: what is declared, and what is derived from it."""
