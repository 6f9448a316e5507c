"""Training as a job on a cluster."""
