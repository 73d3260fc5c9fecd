"""Entry point of ``python -m mapper.cli``, which torchrun needs."""

from mapper.cli.program import main

main()
