"""The frozen list of tasks of a map or of its guide, and what each of them reads.

Called, ``mapper.plan(...)`` is :func:`mapper.api.plan`.
"""

from mapper.callable_package import make_callable

make_callable(__name__)
