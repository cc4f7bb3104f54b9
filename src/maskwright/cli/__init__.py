"""The command line: ``maskwright``."""
