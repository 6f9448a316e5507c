"""A family: one recipe in one folder, from prepared corpora to the report."""
