"""Event files of TensorBoard, read back by TensorBoard itself."""

import sys

import numpy as np
import pytest

from prefixcap.board import Board, Sample
from prefixcap.errors import InputError


def test_numbers_and_photos_with_captions_are_there(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = Board(tmp_path)
    board.scalars(7, {"loss": 2.5, "tokens": 480, "name": "no number"})
    board.samples(7, [Sample(np.zeros((8, 12, 3), np.uint8), "a dog", "the dog runs")])
    board.writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "tokens"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 2.5)]
    [picture] = events.Images("dev photo 0")
    assert (picture.width, picture.height, picture.step) == (12, 8, 7)
    [text] = events.Tensors("dev photo 0/text_summary")
    assert text.tensor_proto.string_val == [b"a dog\n\nreference: the dog runs"]


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'prefixcap\[tensorboard\]'"):
        Board(tmp_path)
