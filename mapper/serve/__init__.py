"""HTTP for analysts, read-only: the store as plain Zarr, pixels with their record, STAC.

Called, ``mapper.serve(...)`` is :func:`mapper.api.serve`.
"""

from mapper.callable_package import make_callable

make_callable(__name__)
