"""Preparation of corpora: documents become token shards, on this machine or on a cluster."""
