"""Tiles of maps, guides and levels computed and committed, with their records.

Called, ``mapper.run(...)`` is :func:`mapper.api.run`.
"""

from mapper.callable_package import make_callable

make_callable(__name__)
