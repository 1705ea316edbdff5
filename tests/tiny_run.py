"""A tiny world to train in: coloured photos with captions, a tiny teacher, tiny recipes."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "grey": (128,) * 3}
PHOTOS = 24


def write_photos(folder: Path, split_at: int = 16) -> Path:
    """Folder in Flickr8k's published format; one photo in ten is noise upon its colour."""
    images = folder / "images"
    images.mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines, names = [], []
    for number in range(PHOTOS):
        colour = list(COLOURS)[number % len(COLOURS)]
        pixels = np.full((32, 32, 3), COLOURS[colour]) + generator.integers(-20, 20, (32, 32, 3))
        name = f"{number:04d}_{colour}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / name, quality=95)
        for place, text in enumerate((f"A {colour} photo .", f"The picture is {colour} .")):
            lines.append(f"{name}#{place}\t{text}")
        names.append(name)
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for split, part in (("train", names[:split_at]), ("dev", names[split_at:])):
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part) + "\n")
    return folder


def with_other_words(model: Path, copy: Path) -> Path:
    """Copy of a model in whose vocabulary two words have changed places."""
    shutil.copytree(model, copy)
    words = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    (a, number), (b, other_number) = list(vocabulary.items())[-2:]
    vocabulary[a], vocabulary[b] = other_number, number
    (copy / "tokenizer.json").write_text(json.dumps(words))
    return copy


def caption_recipe(data: Path, extra: str = "", train: str = "") -> str:
    """Recipe of a captioner of a few thousand weights, from pixels."""
    return f"""
name = "tiny"
stage = "caption"
plain_captions = true
{extra}

[[data]]
format = "flickr8k"
path = "{data}"
split = "train"

[[dev]]
format = "flickr8k"
path = "{data}"
split = "dev"

[views]
min_area = 0.8
mirror = true
stored_px = 32

{encoder_tables()}

[mapper]
kind = "transformer"
prefix_length = 2
layers = 1
heads = 2
dropout = 0.1

[language_model]
frozen = false
width = 16
layers = 1
heads = 2
positions = 40
vocabulary = 300
dropout = 0.1

[train]
epochs = 4
images_per_step = 4
lr = 3e-3
lr_encoder = 1e-3
warmup_steps = 2
ema = 0.9
precision = "fp32"
log_steps = 1
threads = 1
device = "cpu"
{train}

[decoding]
max_tokens = 8
stop = "end"
"""


def distill_recipe(data: Path, teacher: Path, store: Path) -> str:
    """Recipe that distils a tiny CLIP ViT's patches into a tiny ResNet."""
    return f"""
name = "tiny-distill"
stage = "distill"
store = "{store}"

[[data]]
format = "flickr8k"
path = "{data}"
split = "train"

[[data]]
format = "photos"
path = "{data}/images"

[views]
min_area = 0.5
mirror = true
light = 0.1
stored_px = 32

{encoder_tables()}

[distill]
words_weight = 0.05
words = 20

[distill.teacher]
kind = "clip"
name = "{teacher}"
output = "patches"

{distill_train(6, 3e-3, "fp32")}
"""


def distill_train(epochs: int, lr: float, precision: str) -> str:
    """How a tiny encoder is distilled."""
    return f"""
[train]
epochs = {epochs}
images_per_step = 8
lr = {lr}
warmup_steps = 2
precision = "{precision}"
log_steps = 1
threads = 1
device = "cpu"
"""


def encoder_tables() -> str:
    """The student's tables."""
    return """
[encoder]
kind = "resnet"
output = "patches"
stored = true

[encoder.resnet]
stem_width = 4
widths = [4, 8]
depths = [1, 1]

[encoder.preprocess]
resize = "squash"
crop_px = 32
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
"""


def save_tiny_teacher(folder: Path) -> Path:
    """CLIP ViT of a few thousand weights, saved as transformers saves one."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def run_folder(folder: Path, data: Path, name: str = "run") -> RunFolder:
    """Run folder of a recipe that only its training settings matter of."""
    path = folder / "recipe.toml"
    path.write_text(caption_recipe(data))
    return RunFolder(folder / name, load_recipe(path))
