"""What is in prepared corpora: statistics, samples, and differences between two preparations."""
