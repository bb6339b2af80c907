"""One file or folder per outside system; each imports its own driver and nobody else's."""
