"""Prepared corpora on disk: token shards and an index of documents under one manifest."""
