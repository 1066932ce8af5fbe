"""Arrays in JSON: base64 of raw little-endian numbers, read back without running any code."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from cascade_core.errors import PolicyError

_DTYPES = frozenset({"float64", "float32", "int64", "int32", "int8", "uint8", "bool"})


def encode(value: Any) -> Any:
    """Replace every array inside nested dicts, lists and tuples by ``{"dtype", "shape", "base64"}``."""
    if isinstance(value, np.ndarray):
        dtype = str(value.dtype)
        if dtype not in _DTYPES:
            raise TypeError(f"arrays of type {dtype} cannot be saved; expected one of {sorted(_DTYPES)}")
        raw = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        return {"dtype": dtype, "shape": list(value.shape), "base64": base64.b64encode(raw).decode("ascii")}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(value: Any) -> Any:
    """Inverse of :func:`encode`.

    Raises:
        PolicyError: if an array's type, shape and bytes do not fit together.
    """
    if isinstance(value, dict):
        if value.keys() == {"dtype", "shape", "base64"}:
            return _array(value)
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


def _array(value: dict[str, Any]) -> np.ndarray[Any, Any]:
    if value["dtype"] not in _DTYPES:
        raise PolicyError(
            f"array of type {value['dtype']!r}, expected one of {sorted(_DTYPES)}: the file is damaged"
        )
    try:
        dtype = np.dtype(value["dtype"])
        raw = base64.b64decode(value["base64"], validate=True)
        little_endian = np.frombuffer(raw, dtype.newbyteorder("<"))
        return little_endian.astype(dtype).reshape([int(size) for size in value["shape"]])
    except (binascii.Error, TypeError, ValueError) as error:
        raise PolicyError(f"an array of the file is damaged: {error}. Save the policy again") from error
