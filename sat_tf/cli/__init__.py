"""The command line: parses, calls, prints.

A command is one module with a line of help as its docstring, `add_arguments(parser)`
and `run(args)`, which may return an exit status; and one entry in `COMMANDS`. Libraries
are imported in `run`: they take seconds, and `--help` must not wait for them.
"""

from sat_tf.cli.program import main

__all__ = ["main"]
