"""Epochs of a study's runs out of their logs."""

import pytest

from prefixcap.report_log import TrainingLog
from prefixcap.study_results import epochs_of


def test_an_epoch_has_the_losses_since_the_last_validation():
    log = TrainingLog(
        losses={5: 4.0, 10: 2.0, 15: 1.0, 17: 3.0},
        validations={
            10: {"dev_loss": 3.5, "flickr8k CIDEr": 0.2, "coco CIDEr": 0.4, "coco BLEU-1": 0.9},
            17: {"flickr8k CIDEr": 0.5},
        },
    )
    first, last = epochs_of(log, epochs=1.7, validate_epochs=1.0)
    assert first == {"epoch": 1.0, "loss": 3.0, "dev_loss": 3.5, "cider": pytest.approx(0.3)}
    assert last == {"epoch": 1.7, "loss": 2.0, "dev_loss": None, "cider": 0.5}
