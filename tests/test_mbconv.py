"""The network of inverted residuals: its stages, grid, pooling and refusals."""

import pytest
import torch
from pydantic import ValidationError

from prefixcap.config import EncoderConfig, MbConvConfig, PreprocessConfig
from prefixcap.encoder import build_encoder, load_encoder
from prefixcap.errors import InputError
from prefixcap.mbconv import MbConv, MbConvNet

TINY = MbConvConfig(
    stem_width=4, widths=(4, 6, 8), hidden=(8, 12, 16), depths=(1, 2, 1), strides=(2, 2, 1),
    fused=(True, True, False),
    last_width=20,
)  # fmt: skip


def test_pooled_is_the_mean_of_the_patches():
    model = MbConvNet(TINY).eval()
    pooled, patches = model(torch.randn(2, 3, 64, 64))
    assert patches.shape == (2, 64, 20)  # stride 2 of the stem, 2 of each of two stages
    torch.testing.assert_close(pooled, patches.mean(1))


def test_stages_one_after_the_other_are_the_network():
    torch.manual_seed(0)
    model = MbConvNet(TINY).eval()
    pixels = torch.randn(2, 3, 32, 32)
    x, shapes = pixels, []
    for stage in model.stages():
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 8, 8), (6, 4, 4), (20, 4, 4)]
    torch.testing.assert_close(x.flatten(2).transpose(1, 2), model(pixels)[1])


def test_patches_stand_row_by_row():
    torch.manual_seed(0)
    model = MbConvNet(TINY).eval()
    pixels = torch.zeros(1, 3, 64, 64)
    still = model(pixels)[1]
    pixels[:, :, :16, -16:] = 1.0  # top right corner: the last two cells of the first two rows
    moved = (model(pixels)[1] - still).abs().sum(-1).view(8, 8)
    assert moved[:4, 4:].sum() > 0.95 * moved.sum() and moved.sum() > 0


@pytest.mark.parametrize("fused", [True, False])
def test_a_block_adds_to_what_it_sees_where_the_shape_stays(fused):
    x = torch.rand(1, 4, 8, 8)
    for width, stride in ((4, 1), (4, 2), (6, 1)):
        block = MbConv(4, width, 8, stride, fused=fused).eval()
        torch.nn.init.zeros_(block.layers[-1][1].weight)  # of its batch-norm: it adds nothing
        added = x if (width, stride) == (4, 1) else torch.zeros(1, width, 8 // stride, 8 // stride)
        torch.testing.assert_close(block(x), added)


def test_sizes_of_different_numbers_of_stages_are_refused():
    with pytest.raises(ValidationError, match="2 widths, 6 hidden, 6 depths, 6 strides, 6 fused"):
        MbConvConfig(widths=(8, 8))


def test_an_encoder_without_sizes_or_preprocessing_or_by_name_is_refused():
    with pytest.raises(ValidationError, match=r"needs its \[encoder.mbconv\] sizes"):
        EncoderConfig(kind="mbconv")
    config = EncoderConfig(kind="mbconv", stored=True, mbconv=TINY)
    with pytest.raises(InputError, match=r"'mbconv': set its \[encoder.preprocess\]"):
        build_encoder(config)
    with pytest.raises(InputError, match="'mbconv' has its weights in a model folder"):
        load_encoder(config)


def test_built_encoder_takes_patches_and_has_a_fingerprint_of_its_weights():
    square = PreprocessConfig(resize="squash", crop_px=32)
    config = EncoderConfig(
        kind="mbconv", output="patches", stored=True, mbconv=TINY, preprocess=square
    )
    one, other = build_encoder(config).eval(), build_encoder(config).eval()
    assert one(torch.randn(2, 3, 32, 32)).shape == (2, 16, 20) and one.embedding_dim == 20
    assert one.fingerprint() != other.fingerprint()
    other.load_state_dict(one.state_dict())
    assert one.fingerprint() == other.fingerprint()
