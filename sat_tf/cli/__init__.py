"""The command line: parses, calls, prints.

A command is one module with a line of help as its docstring, `add_arguments(parser)`
and `run(args)`, which may return an exit status; and one entry in `COMMANDS`. Where
Ctrl-C leaves something else than files, it says so in `STOPPED`. Libraries are imported
in `run`: they take seconds, and `--help` must not wait for them.
"""

from sat_tf.cli.program import main

__all__ = ["main"]
