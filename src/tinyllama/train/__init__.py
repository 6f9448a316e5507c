"""Training: optimizer, precision, ranks and the training loop."""
