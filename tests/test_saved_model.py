"""Either kind of captioner in files: types of weights, and an encoder that belongs with them."""

import pytest
import torch

from prefixcap.errors import InputError
from prefixcap.saved_model import SavedModel
from tests import tiny_clipcap, tiny_lstm


@pytest.fixture(params=["clipcap", "lstm"])
def model(request) -> SavedModel:
    if request.param == "clipcap":
        return tiny_clipcap.tiny_model()
    return tiny_lstm.tiny_model(tiny_lstm.tiny_lstm())


def batch_for(model: SavedModel):
    """Captions and embeddings that the model was made for."""
    is_lstm = model.config.lstm is not None
    return tiny_lstm.tiny_batch(model) if is_lstm else tiny_clipcap.tiny_batch()


def test_half_precision_files_are_smaller_and_load_as_float32(model, tmp_path):
    model.save_pretrained(tmp_path / "full")
    model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = type(model).from_pretrained(tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    batch = batch_for(model)
    torch.testing.assert_close(loaded.loss(batch)[0], model.loss(batch)[0], rtol=1e-2, atol=0)


def test_a_model_is_loaded_in_the_dtype_asked_for(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded.trained_parameters == model.trained_parameters
    _, tokens = loaded.loss(batch_for(model))
    assert tokens > 0


def test_a_model_without_its_encoder_cannot_be_saved_as_holding_it(model, tmp_path):
    encoder = model.config.encoder.model_copy(update={"stored": True})
    model.config = model.config.model_copy(update={"encoder": encoder})
    with pytest.raises(InputError, match="it has no encoder"):
        model.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
