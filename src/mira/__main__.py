"""`python -m mira`."""

from mira.cli.app import main

main()
