"""Starting, stopping and resuming families from the page, where the studio was started with `--control`."""
