"""The command line: every command of ``python -m app``."""
