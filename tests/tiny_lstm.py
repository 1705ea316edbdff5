"""Small LSTM captioners and batches for tests."""

import torch

from prefixcap.caption_batch import CaptionBatch
from prefixcap.config import EncoderConfig, LstmConfig, ModelConfig
from prefixcap.lstm import LstmCaptioner
from prefixcap.tokenizer import IGNORED
from prefixcap.word_vocabulary import count_words

POSITIONS, WIDTH = 6, 24
CAPTIONS = ["a dog runs on the grass.", "two dogs play.", "the dog is in the water.", "a man."]
CLIP = EncoderConfig(kind="clip", name="openai/clip-vit-base-patch32")
SIZES = {"embedding_size": 12, "hidden_size": 16, "attention_size": 10}


def tiny_lstm(**changes: object) -> LstmConfig:
    """Sizes of a few thousand weights."""
    return LstmConfig(**{**SIZES, "min_count": 1, **changes})


def tiny_model(lstm: LstmConfig, *, patches: bool = False) -> LstmCaptioner:
    """Model with reproducible random weights, large enough that its words differ."""
    torch.manual_seed(0)
    config = ModelConfig(
        encoder=CLIP.model_copy(update={"output": "patches" if patches else "pooled"}),
        embedding_dim=WIDTH,
        embedding_tokens=POSITIONS if patches else None,
        lstm=lstm,
    )
    model = LstmCaptioner(config, count_words(CAPTIONS, 1)).eval()
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.normal_(std=0.6)
    return model


def tiny_batch(model: LstmCaptioner) -> CaptionBatch:
    """Five captions of 1 to 6 tokens of the images 0 and 2; image 1 has none."""
    generator = torch.Generator().manual_seed(1)
    lengths, rows = [4, 6, 2, 1, 3], [0, 0, 2, 2, 2]
    ids = torch.full((len(lengths), max(lengths)), IGNORED)
    for caption, length in enumerate(lengths):
        words = torch.randint(3, model.tokenizer.vocabulary_size, (length,), generator=generator)
        ids[caption, :length] = words
    shape = (3, model.config.embedding_tokens, WIDTH)
    embeddings = torch.randn([size for size in shape if size], generator=generator)
    return CaptionBatch(embeddings, ids, torch.tensor(rows))


def words_of(batch: CaptionBatch, caption: int) -> list[int]:
    """Token ids of one caption."""
    return [token for token in batch.ids[caption].tolist() if token != IGNORED]
