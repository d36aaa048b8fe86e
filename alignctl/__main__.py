"""Lets `python -m alignctl` run the command line."""

from alignctl.cli.app import main

if __name__ == "__main__":
    main()
