"""Sources: documents read from files, URLs and builtin sources, and records of what was rejected."""
