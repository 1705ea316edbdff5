"""Files that the safetensors library reads, and errors on those that are not whole."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from prefixcap.errors import InputError
from prefixcap.metrics.arrays import read_arrays, write_arrays

ARRAYS = {
    "keys": np.array([1, 2**64 - 1], np.uint64),
    "counts": np.arange(6, dtype=np.int32).reshape(2, 3),
    "empty": np.empty(0, np.float64),
}


def test_the_safetensors_library_reads_what_is_written(tmp_path):
    write_arrays(tmp_path / "a.safetensors", ARRAYS, {"note": "x"})
    theirs = load_file(tmp_path / "a.safetensors")
    ours, metadata = read_arrays(tmp_path / "a.safetensors")
    assert metadata == {"note": "x"}
    assert theirs.keys() == ours.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(ours[name], array)
        assert ours[name].dtype == array.dtype


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, kept):
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"a\.safetensors: not a whole safetensors file"):
        read_arrays(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors: cannot be read"):
        read_arrays(tmp_path / "none.safetensors")
