"""Preparation: documents become a corpus of token shards, on this machine or on a cluster."""
