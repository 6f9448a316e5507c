"""Preparation on many machines that share a folder, by datatrove's executors, which an extra installs."""
