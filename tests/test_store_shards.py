"""Files of one shard: whole or not there, and what a full disk leaves."""

import resource

import numpy as np
import pytest

from prefixcap.store_shards import write_shard


@pytest.mark.parametrize("size", [2000, 20000])
def test_a_shard_that_has_no_room_is_named(tmp_path, size):
    """A limit of a file's size stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write_shard(tmp_path, 0, {"image 0": np.zeros(size, np.float16)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "embeddings-00000.npy")
    assert list(tmp_path.iterdir()) == []
