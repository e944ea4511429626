from inward.cli import entry

entry()
