"""Items in large numbers and little memory: compressed as in their file, parsed on demand.

A parsed item takes 15 kB and more, its text 3 to 5 kB, its compressed text a few hundred bytes.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa

_ROWS = 16
"""Items in one compressed block: few, since all are unpacked to get at one."""
_PARSED = 1024
"""Items that stay parsed: a few times what neighbouring tiles need."""
_SCHEMA = pa.schema([("item", pa.string())])

_Item = dict[str, Any]


class CompressedItems(Sequence[_Item]):
    """Items by number, immutable; the last ones used stay parsed. For one thread."""

    def __init__(self, texts: Iterable[pa.StringArray]) -> None:
        """Compress items.

        Args:
            texts: JSON of every item, in any number of arrays without nulls; gone through once.
        """
        seal, sink, sizes = _Seal(), pa.BufferOutputStream(), [0]
        with pa.ipc.new_file(sink, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            for array in texts:
                seal.update(array)
                for first in range(0, len(array), _ROWS):
                    rows = array.slice(first, _ROWS)
                    writer.write_batch(pa.record_batch([rows], schema=_SCHEMA))
                    sizes.append(len(rows))
        content = sink.getvalue()
        self._reader = pa.ipc.open_file(content)
        self._ends = np.cumsum(sizes)
        self._parsed: OrderedDict[int, _Item] = OrderedDict()
        self.seal = seal.hexdigest()
        """Sha256 of all texts, see :func:`seal_texts`."""
        self.nbytes: int = content.size
        """Size in bytes of the compressed texts, without the items that are parsed."""

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[_Item]:
        for batch in range(len(self._ends) - 1):
            yield from map(json.loads, self._reader.get_batch(batch).column(0).to_pylist())

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_Item, ...]: ...
    def __getitem__(self, index: int | slice) -> _Item | tuple[_Item, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        if number in self._parsed:
            self._parsed.move_to_end(number)
        else:
            self._parsed[number] = self._parse(number)
            if len(self._parsed) > _PARSED:
                self._parsed.popitem(last=False)
        return self._parsed[number]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(dict.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _parse(self, number: int) -> _Item:
        batch = int(np.searchsorted(self._ends, number, side="right")) - 1
        text = self._reader.get_batch(batch).column(0)[number - int(self._ends[batch])]
        item: _Item = json.loads(text.as_py())
        return item


def seal_texts(texts: Iterable[pa.StringArray]) -> str:
    """Return the sha256 of texts in their order, whatever arrays they come in."""
    seal = _Seal()
    for array in texts:
        seal.update(array)
    return seal.hexdigest()


class _Seal:
    """Hash of the characters of texts in their order, and of their lengths at the end."""

    def __init__(self) -> None:
        self._texts, self._lengths = hashlib.sha256(), hashlib.sha256()

    def update(self, array: pa.StringArray) -> None:
        _, ends, characters = array.buffers()
        offsets = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1]
        if len(array):
            self._texts.update(memoryview(characters)[offsets[0] : offsets[-1]])
            self._lengths.update(np.diff(offsets).astype("<i8").tobytes())

    def hexdigest(self) -> str:
        return hashlib.sha256(self._texts.digest() + self._lengths.digest()).hexdigest()
