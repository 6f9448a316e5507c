"""Model formats of other tools, read and written; `open` resolves whatever a person names as a model."""
