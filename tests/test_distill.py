"""The teacher's grid under a view, and what the losses measure."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prefixcap.config import EncoderConfig, PreprocessConfig, ResNetConfig
from prefixcap.distill import DistillBatch, Distiller, TeacherStatistics, cut_grid, paste
from prefixcap.encoder import build_encoder
from prefixcap.recipe import DistillConfig

BOXES = torch.tensor([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], [0.3, 0, 1, 0.8], [0, 0.5, 0.5, 1]])
MIRRORED = torch.tensor([False, True, False, True])


def test_cut_grid_equals_grid_sample_of_four_points_a_cell():
    grid = torch.randn(4, 7, 7, 5, generator=torch.Generator().manual_seed(0))
    fine = 8
    centres = (torch.arange(fine) + 0.5) / fine
    left, top, right, bottom = BOXES.unbind(1)
    across = torch.where(MIRRORED[:, None], centres.flip(0), centres)
    x = left[:, None] + (right - left)[:, None] * across
    y = top[:, None] + (bottom - top)[:, None] * centres
    where = torch.stack(
        [x[:, None, :].expand(-1, fine, -1), y[:, :, None].expand(-1, -1, fine)], dim=-1
    )
    sampled = F.grid_sample(
        grid.permute(0, 3, 1, 2), where * 2 - 1, align_corners=False, padding_mode="border"
    )
    expected = F.avg_pool2d(sampled, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(cut_grid(grid, BOXES, MIRRORED, 4), expected)


def test_whole_view_of_a_constant_grid_is_that_constant():
    grid = torch.full((1, 7, 7, 2), 3.0)
    cut = cut_grid(grid, BOXES[:1], MIRRORED[:1], 4)
    torch.testing.assert_close(cut, torch.full((1, 16, 2), 3.0))


def make(config: DistillConfig) -> Distiller:
    """Distiller of a tiny student and a teacher of 6 channels and 5 classes."""
    torch.manual_seed(0)
    preprocess = PreprocessConfig(resize="squash", crop_px=32)
    sizes = ResNetConfig(stem_width=8, widths=(8, 8), depths=(1, 1))
    encoder = build_encoder(
        EncoderConfig(
            kind="resnet", output="patches", stored=True, resnet=sizes, preprocess=preprocess
        )
    )
    statistics = TeacherStatistics(torch.zeros(6), torch.ones(6), torch.eye(6)[:, :2])
    return Distiller(encoder, nn.Linear(6, 5), statistics, config)


class Told(nn.Module):
    """Says the same, whatever the patches."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def forward(self, patches):
        """What it was made with."""
        return self.said


def make_batch(size: int = 4) -> DistillBatch:
    """Random photos, the last without captions."""
    generator = torch.Generator().manual_seed(1)
    return DistillBatch(
        pixels=torch.randn(size, 3, 32, 32, generator=generator),
        grid=torch.randn(size, 4, 4, 6, generator=generator).half(),
        boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(size, 4),
        mirrored=torch.zeros(size, dtype=torch.bool),
        words=torch.ones(size, 3),
        captioned=torch.arange(size) < size - 1,
    )


@pytest.fixture
def config() -> DistillConfig:
    """Every loss on."""
    teacher = EncoderConfig(kind="mobilenetv2", name="weights.npz")
    return DistillConfig(teacher=teacher, classes_weight=1, words_weight=1, words=3)


def test_loss_is_the_sum_of_its_parts_over_photos(config):
    loss, count, parts = make(config).loss(make_batch())
    assert count == 4
    assert set(parts) == {"grid", "cosine", "classes", "words"}
    assert float(loss.detach()) == pytest.approx(4 * sum(parts.values()), rel=1e-5)


def test_components_are_those_of_the_pooled_vectors_largest_first():
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([3.0, 1.0, 0.2, 0.2, 0.2, 0.2])
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    pooled = (torch.randn(500, 1, 6, generator=generator) * spread) @ turn + 4
    found = TeacherStatistics.of(pooled.expand(-1, 9, -1), 2)
    said = (pooled[:, 0] - found.mean) @ found.components  # (500, 2)
    torch.testing.assert_close(said.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert found.components.shape == (6, 2)
    variances = said.var(0)
    torch.testing.assert_close(variances.mean(), torch.tensor(1.0))
    assert variances[0] / variances[1] == pytest.approx(3, rel=0.15)  # of deviations 3 and 1
    along = torch.nn.functional.normalize(found.components, dim=0).T @ turn.T  # (2, 6)
    assert along.abs().argmax(1).tolist() == [0, 1]


def test_components_alone_can_be_the_target(config):
    more = config.model_copy(update={"components_weight": 2.0})
    task = make(more).eval()
    batch = make_batch()
    assert set(task.loss(batch)[2]) == {"grid", "cosine", "classes", "components", "words"}
    target = cut_grid(batch.grid.float(), batch.boxes, batch.mirrored, 4).mean(1)[:, :2]
    task.to_components = Told(target)
    assert task.loss(batch)[2]["components"] == pytest.approx(0, abs=1e-10)
    task.to_components = Told(target + 3)
    assert task.loss(batch)[2]["components"] == pytest.approx(18, rel=1e-5)


def test_photos_without_captions_do_not_count_for_the_words(config):
    task = make(config).eval()
    batch = make_batch()
    before = task.loss(batch)[2]["words"]
    batch.words[-1] = 0.0
    assert task.loss(batch)[2]["words"] == pytest.approx(before)


def test_a_perfect_student_has_no_loss_but_the_words(config):
    task = make(config).eval()
    batch = make_batch()
    target = cut_grid(batch.grid.float(), batch.boxes, batch.mirrored, 4)
    task.to_grid = Told(target)
    parts = task.loss(batch)[2]
    assert np.allclose([parts["grid"], parts["cosine"], parts["classes"]], 0, atol=1e-5)


def test_the_classifier_of_the_teacher_does_not_learn(config):
    task = make(config)
    loss, _, _ = task.loss(make_batch())
    loss.backward()
    assert task.classifier.weight.grad is None
    assert task.to_grid.weight.grad is not None


def test_pasting_moves_whole_cells_of_the_picture_before():
    pixels = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    pasted = torch.zeros(3, 4, dtype=torch.bool)
    pasted[1, 1] = pasted[2, 2] = True
    found = paste(pixels, pasted)
    assert found[0].eq(0).all()
    assert found[1, :, :4, 4:].eq(0).all() and found[1].eq(0).sum() == 3 * 16
    assert found[2, :, 4:, :4].eq(1).all() and found[2].eq(1).sum() == 3 * 16


def test_a_pasted_part_is_compared_with_the_teacher_of_its_own_picture(config):
    task = make(config).eval()
    whole = make_batch()
    pasted = torch.zeros(4, 16, dtype=torch.bool)
    pasted[:, :8] = True
    batch = replace(whole, pasted=pasted)
    target = cut_grid(batch.grid.float(), batch.boxes, batch.mirrored, 4)
    mixed = torch.cat([target.roll(1, 0)[:, :8], target[:, 8:]], dim=1)
    task.to_grid = Told(mixed)
    parts = task.loss(batch)[2]
    assert np.allclose([parts["grid"], parts["cosine"], parts["classes"]], 0, atol=1e-5)


def test_words_of_two_pictures_count_by_their_area(config):
    task = make(config).eval()
    batch = replace(
        make_batch(),
        words=torch.eye(4)[:, :3],
        captioned=torch.tensor([True, True, True, False]),
        pasted=(torch.arange(16) < 4).expand(4, 16),
    )
    logits = torch.tensor([[2.0, 0.0, 0.0]]).expand(4, 3)
    task.to_words = Told(logits)
    # The first picture holds a part of the last, which has no captions; the second of the first.
    wanted = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.25, 0.75]])
    expected = F.binary_cross_entropy_with_logits(logits[:2], wanted, reduction="sum") / 2
    assert task.loss(batch)[2]["words"] == pytest.approx(float(expected), rel=1e-5)
