"""Names for arrays of one kind of number, whatever their dims."""

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.floating]
"""Array of floats of any precision."""
