"""The command line: arguments in, functions called, results printed; nothing else.

Reports go to standard output (``--json`` for machines), progress and errors to standard error. Exit codes: 0 done,
1 finished with failed tiles or a failure of the world, 2 bad usage or a bad map description.

Commands import what they run when they run, so that ``--help`` and ``why`` need not wait for torch and Dask.
"""

from mapper.cli.program import app, main

__all__ = ["app", "main"]
