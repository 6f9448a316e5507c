"""The studio: a page on this machine that shows runs while they go, scores, data and recipes."""
