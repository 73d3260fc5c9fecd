"""``python -m mapper.cli``, as torchrun wants it."""

from mapper.cli.program import main

main()
