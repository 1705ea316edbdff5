"""Mappers give the prefix that the paper's formulas give, from pooled and from patch embeddings."""

import pytest
import torch
from torch import nn

from prefixcap.config import MapperConfig
from prefixcap.errors import InputError
from prefixcap.mapper import AttentionPool, build_mapper, resized_positions

DIM, WIDTH, PATCHES = 12, 16, 5
KINDS = ["mlp", "transformer", "linear"]


def config(kind: str, **changes: object) -> MapperConfig:
    values = {"prefix_length": 4, "clip_length": 3, "layers": 2, "heads": 4}
    return MapperConfig(kind=kind, **{**values, **changes})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 80])
def test_prefix_has_its_length_and_width(kind, length):
    mapper = build_mapper(config(kind, prefix_length=length), DIM, WIDTH)
    assert mapper(torch.randn(2, DIM)).shape == (2, length, WIDTH)


@pytest.mark.parametrize("kind", KINDS)
def test_patch_tokens_give_a_prefix_too(kind):
    mapper = build_mapper(config(kind), DIM, WIDTH, tokens=PATCHES)
    assert mapper(torch.randn(2, PATCHES, DIM)).shape == (2, 4, WIDTH)


def test_patches_are_mapped_one_by_one_and_know_their_place():
    mapper = build_mapper(config("patches", prefix_length=PATCHES), DIM, WIDTH, tokens=PATCHES)
    tokens = torch.randn(2, PATCHES, DIM)
    prefix = mapper(tokens)
    assert prefix.shape == (2, PATCHES, WIDTH)
    changed = tokens.clone()
    changed[:, 1] = 0
    moved = (mapper(changed) - prefix).abs().sum(-1) > 0  # (2, N)
    assert moved.tolist() == [[False, True, False, False, False]] * 2
    with torch.no_grad():
        mapper.positions[3] += 1
    torch.testing.assert_close((mapper(tokens) - prefix)[:, 3], torch.ones(2, WIDTH))


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [(None, "output = 'patches'"), (6, "length = 6"), (196, "80 at most, take .*'transformer'")],
)
def test_a_prefix_of_patches_is_as_long_as_the_grid(tokens, wanted):
    with pytest.raises(InputError, match=wanted):
        build_mapper(config("patches", prefix_length=PATCHES), DIM, WIDTH, tokens=tokens)


def test_mlp_is_tanh_between_two_linears():
    mapper = build_mapper(config("mlp"), DIM, WIDTH)
    hidden, out = mapper.hidden, mapper.out
    assert hidden.weight.shape == (4 * WIDTH // 2, DIM)  # the paper's half of k * width
    embedding = torch.randn(2, DIM)
    expected = out(torch.tanh(hidden(embedding))).reshape(2, 4, WIDTH)  # (B, P, W)
    torch.testing.assert_close(mapper(embedding), expected)


def test_transformer_layer_is_torchs_own_pre_norm_layer():
    """The same weights in torch's TransformerEncoderLayer, whose projections have biases of 0."""
    mapper = build_mapper(config("transformer"), DIM, WIDTH)
    layers = [as_torch_layer(layer) for layer in mapper.layers]
    embedding = torch.randn(2, DIM)
    tokens = torch.cat(
        [mapper.linear(embedding).reshape(2, 3, WIDTH), mapper.prefix_const.expand(2, -1, -1)], 1
    )  # (B, C + P, W)
    for layer in layers:
        tokens = layer(tokens)
    torch.testing.assert_close(mapper(embedding), tokens[:, 3:], atol=1e-5, rtol=1e-5)


def as_torch_layer(layer: nn.Module) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of one of ours."""
    other = nn.TransformerEncoderLayer(
        WIDTH, 4, 2 * WIDTH, dropout=0.0, activation="relu", batch_first=True, norm_first=True
    )
    attention = layer.attn
    values = {
        "self_attn.in_proj_weight": torch.cat(
            [attention.to_queries.weight, attention.to_keys_values.weight]
        ),
        "self_attn.in_proj_bias": torch.zeros(3 * WIDTH),
        "self_attn.out_proj.weight": attention.project.weight,
        "self_attn.out_proj.bias": attention.project.bias,
        "linear1.weight": layer.mlp.fc1.weight,
        "linear1.bias": layer.mlp.fc1.bias,
        "linear2.weight": layer.mlp.fc2.weight,
        "linear2.bias": layer.mlp.fc2.bias,
        "norm1.weight": layer.norm1.weight,
        "norm1.bias": layer.norm1.bias,
        "norm2.weight": layer.norm2.weight,
        "norm2.bias": layer.norm2.bias,
    }
    other.load_state_dict(values)
    return other


def test_transformer_knows_where_a_patch_is():
    mapper = build_mapper(config("transformer"), DIM, WIDTH, tokens=PATCHES)
    patches = torch.randn(1, PATCHES, DIM)
    swapped = patches[:, [1, 0, 2, 3, 4]]
    torch.testing.assert_close(mapper(patches), mapper(swapped))  # at first all places are alike
    nn.init.normal_(mapper.positions)
    assert not torch.allclose(mapper(patches), mapper(swapped), atol=1e-3)


def test_positions_of_another_resolution_lie_between_the_former_places():
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    former = torch.stack([rows, columns, torch.full((4, 4), 7.0)], dim=-1).flatten(0, 1)  # (16, 3)
    resized = resized_positions(former, 64).view(8, 8, 3)
    places = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])  # centres, the edge goes on
    torch.testing.assert_close(resized[..., 0], places[:, None].expand(8, 8))
    torch.testing.assert_close(resized[..., 1], places.expand(8, 8))
    torch.testing.assert_close(resized[..., 2], torch.full((8, 8), 7.0))
    assert resized_positions(former, 16) is former
    assert resized_positions(former, 15) is former  # no square: refused where it is loaded


def test_attention_pool_starts_as_the_mean_and_then_weighs():
    pool = AttentionPool(DIM)
    tokens = torch.randn(2, PATCHES, DIM)
    torch.testing.assert_close(pool(tokens), tokens.mean(dim=1))
    with torch.no_grad():
        pool.score.weight.copy_(1000 * tokens[0, 3])
    torch.testing.assert_close(pool(tokens[:1]), tokens[:1, 3])


def test_dropout_acts_in_training_only():
    for kind in ("mlp", "transformer"):
        mapper = build_mapper(config(kind, dropout=0.5), DIM, WIDTH)
        embedding = torch.randn(2, DIM)
        assert not torch.equal(mapper(embedding), mapper(embedding))
        mapper.eval()
        assert torch.equal(mapper(embedding), mapper(embedding))


def test_every_weight_gets_a_gradient():
    for kind in KINDS:
        for tokens in (None, PATCHES):
            mapper = build_mapper(config(kind), DIM, WIDTH, tokens=tokens)
            shape = (2, DIM) if tokens is None else (2, tokens, DIM)
            mapper(torch.randn(shape)).square().sum().backward()
            assert all(p.grad.abs().sum() > 0 for p in mapper.parameters())


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError, match=r"mapper\.heads = 3 does not divide .* width 16"):
        build_mapper(config("transformer", heads=3), DIM, WIDTH)
