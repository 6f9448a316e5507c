"""Corpora: documents, tokenizers, and token shards under one manifest."""
