"""``python -m arrayred``."""

from arrayred.cli import main

main()
