"""Lets `python -m alignctl` run the command line."""

from alignctl.cli import main

if __name__ == "__main__":
    main()
