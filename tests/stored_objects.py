"""What a store consists of, in a directory or in an object store: to count, to look at, to damage."""

import obstore
from obstore.store import LocalStore

from mapper.store.location import parse_location


class StoredObjects:
    """Files or objects of a store, by their names in it."""

    def __init__(self, location):
        place = parse_location(location)
        self._store = LocalStore(place.path) if place.path else place.open_bucket()
        self._prefix = "" if place.path else f"{place.prefix}/"

    def sizes(self, folder=""):
        """Bytes of every object, or of those in a folder."""
        found = obstore.list(self._store, prefix=f"{self._prefix}{folder}").collect()
        return {meta["path"].removeprefix(self._prefix): meta["size"] for meta in found}

    def read(self, name):
        return bytes(obstore.get(self._store, self._prefix + name).bytes())

    def write(self, name, content):
        obstore.put(self._store, self._prefix + name, content, use_multipart=False)

    def delete(self, name):
        obstore.delete(self._store, self._prefix + name)
