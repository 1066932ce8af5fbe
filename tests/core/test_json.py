"""Arrays survive JSON bit for bit; damaged ones are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cascade_core import PolicyError
from cascade_core._json import decode, encode


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_arrays_come_back_bit_for_bit(array):
    back = decode(json.loads(json.dumps(encode({"a": [array]}))))["a"][0]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_decoded_arrays_may_be_written_to():
    decode(encode(np.zeros(3)))[0] = 1.0


@pytest.mark.parametrize(
    "damage", [{"shape": [5]}, {"dtype": "object"}, {"base64": "!!"}, {"base64": "AA"}, {"shape": "x"}]
)
def test_a_damaged_array_is_refused(damage):
    with pytest.raises(PolicyError, match="array"):
        decode({**encode(np.zeros(3)), **damage})
