"""Model formats, read and written. `open.open_model` resolves everything that a caller may name as a model."""
