"""Sources: documents read from files and URLs, and what had to be rejected."""
