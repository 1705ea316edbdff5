"""Attention of the slots, against networks whose attention is known."""

import pytest
import torch

from prefixcap.config import MapperConfig
from prefixcap.explain.attention import attention_weights, slot_attention
from tests import tiny_clipcap
from tests.tiny_explained import patch_model


def test_weights_are_those_that_the_layer_mixes_values_by():
    attention = patch_model().mapper.layers[0].attn
    tokens = torch.randn(2, 5, tiny_clipcap.WIDTH)
    weights = attention_weights(attention, tokens)
    values = attention.to_keys_values(tokens).chunk(2, dim=-1)[1]
    values = values.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    mixed = attention.project((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, attention(tokens), rtol=1e-4, atol=1e-5)


def test_rollout_is_the_product_over_layers_and_leaves_the_model_as_it_was():
    model = patch_model()
    count, slots = model.config.embedding_tokens, 3
    embeddings = torch.randn(2, count, tiny_clipcap.EMBEDDING_DIM)
    found = slot_attention(model, embeddings)
    assert found.shape == (2, slots, count)
    tokens = torch.cat(
        [
            model.mapper.linear(embeddings) + model.mapper.positions,
            model.mapper.prefix_const.expand(2, -1, -1),
        ],
        1,
    )
    product = torch.eye(count + slots)
    for layer in model.mapper.layers:
        weights = attention_weights(layer.attn, layer.norm1(tokens)).mean(1)
        product = (0.5 * weights + 0.5 * torch.eye(count + slots)) @ product
        tokens = layer(tokens)
    seen = product[:, count:, :count]
    torch.testing.assert_close(found, seen / seen.sum(-1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert all(not layer.attn._forward_pre_hooks for layer in model.mapper.layers)


def test_a_slot_that_attends_to_one_place_has_its_map_there():
    model = patch_model(MapperConfig(prefix_length=2, layers=1, heads=1))
    mapper, count = model.mapper, model.config.embedding_tokens
    with torch.no_grad():
        mapper.positions.normal_(std=5)
        attention = mapper.layers[0].attn
        attention.to_queries.weight.copy_(torch.eye(tiny_clipcap.WIDTH) * 9)
        attention.to_keys_values.weight[: tiny_clipcap.WIDTH] = torch.eye(tiny_clipcap.WIDTH)
        mapper.linear.weight.zero_()
        mapper.linear.bias.zero_()
        mapper.prefix_const[0] = mapper.positions[3]
        mapper.prefix_const[1] = mapper.positions[1]
    found = slot_attention(model, torch.randn(1, count, tiny_clipcap.EMBEDDING_DIM))
    assert found[0].argmax(-1).tolist() == [3, 1]
    assert found[0].max(-1).values.min() > 0.9


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_a_pooling_mapper_looks_once_for_all_slots(kind):
    model = patch_model(MapperConfig(kind="linear", prefix_length=2))
    if kind == "mlp":
        model = _mlp_model()
    embeddings = torch.randn(2, model.config.embedding_tokens, tiny_clipcap.EMBEDDING_DIM)
    with torch.no_grad():
        model.mapper.pool.score.weight.normal_()
    found = slot_attention(model, embeddings)
    pooled = (found @ embeddings)[:, 0]
    torch.testing.assert_close(pooled, model.mapper.pool(embeddings), rtol=1e-4, atol=1e-5)


def _mlp_model():
    """MLP mapper over patch tokens."""
    tokens = patch_model().config.embedding_tokens
    encoder = tiny_clipcap.RESNET
    return tiny_clipcap.tiny_model(
        encoder=encoder, embedding_tokens=tokens, mapper=MapperConfig(kind="mlp", prefix_length=2)
    ).eval()


def test_a_slot_of_patches_is_its_own_place():
    count = patch_model().config.embedding_tokens
    model = patch_model(MapperConfig(kind="patches", prefix_length=count))
    found = slot_attention(model, torch.randn(2, count, tiny_clipcap.EMBEDDING_DIM))
    assert torch.equal(found, torch.eye(count).expand(2, -1, -1))


def test_a_pooled_vector_has_no_places():
    embeddings = torch.randn(2, tiny_clipcap.EMBEDDING_DIM)
    assert slot_attention(tiny_clipcap.tiny_model().eval(), embeddings) is None
