"""The protocol by which batch and speed add up: pure rules, no I/O (``docs/seam.md``)."""
