"""``python -m app``: the command line."""

from app.cli.root import entry

if __name__ == "__main__":
    entry()
