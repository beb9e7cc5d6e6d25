"""`python -m locus` is the command `locus`."""

from locus.cli.app import main

if __name__ == "__main__":
    main()
