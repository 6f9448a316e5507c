"""`python -m tinyllama` is the same command as `tinyllama`."""

from tinyllama.cli import main

if __name__ == "__main__":
    main()
