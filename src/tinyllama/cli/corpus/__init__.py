"""The commands that show what is in prepared corpora: `corpus stats`, `corpus sample` and `corpus diff`."""

from tinyllama.cli.corpus import contents

__all__ = ["contents"]
