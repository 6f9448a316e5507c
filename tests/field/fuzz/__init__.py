"""A fuzz of the real command: `python -m tests.field.fuzz --seed 1 --cases 1000`, or one of them with `--case 417`."""
