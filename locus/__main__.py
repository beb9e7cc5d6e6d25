"""`python -m locus` is the command `locus`."""

from locus.cli import main

if __name__ == "__main__":
    main()
