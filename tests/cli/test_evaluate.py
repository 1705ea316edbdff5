"""`prefixcap evaluate`: files, table and exit codes, for a model, a run and a captions file."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prefixcap import datasets, metrics
from prefixcap.captioner import Captioner
from prefixcap.cli import main as cli
from prefixcap.clipscore import clip_scores, load_clip
from prefixcap.evaluate import constant_caption
from prefixcap.metrics import meteor, spice
from prefixcap.metrics.java import JavaError
from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.recipe import Recipe
from prefixcap.score_sheet import read_sheet
from tests.tiny_captioner import save_tiny_model
from tests.tiny_clip import save_whole_clip
from tests.tiny_run import caption_recipe, write_photos


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Folder of a tiny model."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Flickr8k in small: 16 photos in train, 8 in dev."""
    return write_photos(tmp_path / "data")


@pytest.fixture
def run(data: Path, tmp_path: Path):
    """`prefixcap evaluate SOURCE` of the dev split into `tmp_path/out`; its exit code."""

    def evaluate(source: Path | str, *more: str) -> int:
        words = ["evaluate", str(source), "flickr8k", str(data), "--split", "dev"]
        return cli.main([*words, "--out", str(tmp_path / "out"), *more])

    return evaluate


def captions_of(path: Path) -> dict[str, str]:
    """Captions in a results file."""
    return {one["image_id"]: one["caption"] for one in json.loads(path.read_text("utf-8"))}


def test_model_is_scored_beside_the_constant_caption(run, model, data, tmp_path, capsys):
    assert run(model, "--train-path", str(data), "--train-split", "train") == 0
    printed = capsys.readouterr().out
    records = datasets.read("flickr8k", data, "dev")
    captions = captions_of(tmp_path / "out" / "captions-dev.json")
    assert list(captions) == [record.image_id for record in records]
    references = {record.image_id: record.captions for record in records}
    saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    assert saved["scores"] == metrics.score(captions, references).corpus
    floor = constant_caption(datasets.read("flickr8k", data, "train"))
    constant = metrics.score(dict.fromkeys(captions, floor), references).corpus
    assert saved["constant"] == {"caption": floor, "scores": constant}
    training = {"dataset": "flickr8k", "split": "train", "path": str(data), "images": None}
    assert saved["training"] == training | {"images": 16, "captions": 32}
    row = next(line.split() for line in printed.splitlines() if line.startswith("ROUGE-L"))
    low, high = saved["intervals"]["ROUGE-L"]
    values = (saved["scores"]["ROUGE-L"], low, high, constant["ROUGE-L"])
    assert [word for word in row[1:] if word != "to"] == [f"{100 * one:.1f}" for one in values]


def test_training_captions_of_the_images_that_are_scored_are_refused(run, model, data, capsys):
    assert run(model, "--train-path", str(data)) == 2
    error = capsys.readouterr().err
    assert "holds 8 of the images that are scored" in error
    assert "--train-split train" in error


def test_training_captions_can_be_of_another_format(run, model, tmp_path):
    (tmp_path / "train.csv").write_text("image,caption\nphoto.jpg,a dog runs\n")
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.jpg")
    assert run(model, "--train-path", str(tmp_path / "train.csv"), "--train-format", "csv") == 0
    saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    assert saved["constant"]["caption"] == "a dog runs"
    assert saved["training"]["dataset"] == "csv"


def test_an_unknown_tokenizer_is_refused_before_the_model_writes(run, model, tmp_path, capsys):
    assert run(model, "--tokenizer", "spacy") == 2
    assert "'ptb', 'stanford', 'none'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_heap_and_cache_of_spice_reach_its_program(run, data, tmp_path, monkeypatch):
    captions = {record.image_id: "a dog" for record in datasets.read("flickr8k", data, "dev")}
    (tmp_path / "c.json").write_text(json.dumps(captions))
    seen = []
    monkeypatch.setattr(spice, "score", lambda *words: (seen.append(words), (np.zeros(8), {}))[1])
    more = ["--spice-cache", str(tmp_path / "cache"), "--spice-memory", "900"]
    assert run(tmp_path / "c.json", "--metrics", "spice", *more) == 0
    assert run(tmp_path / "c.json", "--metrics", "spice") == 0
    assert [words[3:] for words in seen] == [(tmp_path / "cache", 900), (None, spice.MEMORY_MB)]


def test_scores_file_says_what_the_numbers_belong_to(run, model, tmp_path):
    assert run(model, "--beam", "2", "--metrics", "cider", "--bootstrap-seed", "7") == 0
    saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    assert saved["decoding"]["beam_size"] == 2
    assert saved["interval"]["seed"] == 7
    assert saved["source"]["fingerprint"]
    assert saved["source"]["precision"] == "fp32"
    assert (saved["dataset"], saved["split"], saved["images"]) == ("flickr8k", "dev", 8)
    assert {"prefixcap", "torch", "numpy"} <= saved["versions"].keys()


def test_the_model_computes_in_the_precision_that_is_said(run, model, tmp_path, monkeypatch):
    seen = []
    check = Captioner.check
    monkeypatch.setattr(
        Captioner, "check", lambda self, options: (seen.append(self), check(self, options))
    )
    for precision in ("fp32", "bf16"):
        assert run(model, "--metrics", "cider", "--precision", precision) == 0
        saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
        assert saved["source"]["precision"] == precision
    dtypes = [next(one.model.mapper.parameters()).dtype for one in seen]
    assert dtypes == [torch.float32, torch.bfloat16]


def test_captions_file_of_a_model_scores_as_the_model_does(run, model, tmp_path):
    assert run(model) == 0
    scores = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    written = (tmp_path / "out" / "captions-dev.json").rename(tmp_path / "theirs.json")
    assert run(written) == 0
    again = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    for key in ("scores", "intervals", "per_image", "references", "diversity"):
        assert again[key] == scores[key]
    assert again["source"] == {"kind": "captions", "name": str(written)}


def test_a_run_is_scored_by_its_best_weights_into_its_folder(data, tmp_path):
    folder = tmp_path / "run"
    save_tiny_model(folder / "best")
    (folder / "recipe.json").write_text("{}")
    words = ["evaluate", str(folder), "flickr8k", str(data), "--split", "dev"]
    assert cli.main(words) == 0
    assert (folder / "scores-dev.json").is_file()
    assert len(captions_of(folder / "captions-dev.json")) == 8


def test_a_run_alone_is_scored_on_its_dev_data(data, tmp_path, capsys):
    folder = tmp_path / "run"
    save_tiny_model(folder / "best")
    recipe = Recipe.model_validate(tomllib.loads(caption_recipe(data)))
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    assert cli.main(["evaluate", str(folder), "--first", "5", "--device", "cpu"]) == 0
    assert f"data: flickr8k {data}, split dev, 5 images" in capsys.readouterr().err
    saved = json.loads((folder / "scores-dev.json").read_text())
    assert (saved["dataset"], saved["split"], saved["images"]) == ("flickr8k", "dev", 5)
    more = ["--data", "flickr8k", str(data), "--split", "train", "--metrics", "cider"]
    assert cli.main(["evaluate", str(folder / "best"), *more]) == 0
    assert len(captions_of(folder / "captions-train.json")) == 16


def test_a_run_that_has_no_weights_yet_is_named_before_data_is_read(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text("{}")
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "neither best nor model is there" in error


def test_clipscore_stands_in_table_and_file_with_its_model_and_precision(
    run, model, data, tmp_path, capsys
):
    clip = save_whole_clip(tmp_path / "clip")
    broken = sorted((data / "images").iterdir())[-1]
    assert run(model, "--metrics", "cider") == 0
    broken.write_bytes(b"no photo")
    written = (tmp_path / "out" / "captions-dev.json").rename(tmp_path / "theirs.json")
    capsys.readouterr()
    more = ["--clip", str(clip), "--clip-precision", "fp32", "--metrics", "cider"]
    assert run(written, *more) == 1
    said = capsys.readouterr()
    assert f"CLIP {clip} in fp32" in said.out
    assert said.err.count(f"skipped {broken.name}: ") == 1
    sheet = read_sheet(tmp_path / "out" / "scores-dev.json")
    assert sheet.facts["scores"].keys() == {"CIDEr", "CLIPScore", "RefCLIPScore"}
    assert (sheet.facts["clip"]["model"], sheet.facts["clip"]["precision"]) == (str(clip), "fp32")
    records = datasets.read("flickr8k", data, "dev")[:-1]
    alone = clip_scores(load_clip(str(clip), precision="fp32"), sheet.captions, records)
    for name, statistic in alone.statistics.items():
        assert sheet.facts["scores"][name] == pytest.approx(statistic.corpus)
        assert sheet.statistics[name].corpus == pytest.approx(statistic.corpus)
        assert [*statistic.per_image, None] == pytest.approx(
            [None if one != one else one for one in sheet.statistics[name].per_image]
        )


def test_a_failing_program_costs_its_own_score_alone(run, model, tmp_path, monkeypatch, capsys):
    def fail(*words):
        raise JavaError("METEOR: java ended with code 3: OutOfMemoryError")

    monkeypatch.setattr(meteor, "score", fail)
    assert run(model, "--metrics", "meteor,cider") == 1
    assert "meteor is not scored: METEOR: java ended with code 3" in capsys.readouterr().err
    saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    assert saved["scores"].keys() == {"CIDEr"}
    assert saved["failed"] == ["meteor"]


def test_all_metrics_go_on_without_a_clip_that_cannot_be_had(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr("prefixcap.cli.scoring.PAPER_CLIP", str(tmp_path / "no-clip"))
    assert run(model, "--metrics", "cider,clipscore") == 2
    few = ["cider", "clipscore"]  # METEOR and SPICE take Java half a minute
    monkeypatch.setattr("prefixcap.cli.scoring.metric_names", lambda words: few)
    assert run(model, "--metrics", "all") == 0
    saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    assert saved["scores"].keys() == {"CIDEr"}
    assert "no-clip" in saved["not_scored"]["clipscore"]


def test_a_split_without_references_is_scored_by_its_photos(model, tmp_path):
    entries = [{"id": n, "file_name": f"{n}.png"} for n in range(3)]
    for entry in entries:
        write_png(tmp_path / "images" / entry["file_name"])
    (tmp_path / "nocaps_test.json").write_text(json.dumps({"images": entries}))
    words = ["evaluate", str(model), "nocaps", str(tmp_path / "nocaps_test.json")]
    words += ["--images", str(tmp_path / "images"), "--split", "test", "--out", str(tmp_path)]
    assert cli.main([*words, "--clip", str(save_whole_clip(tmp_path / "clip"))]) == 0
    saved = json.loads((tmp_path / "scores-test.json").read_text())
    assert saved["scores"].keys() == {"CLIPScore"}
    assert saved["images"] == 3


def test_cider_by_saved_frequencies_is_that_of_the_references_they_count(run, data, tmp_path):
    records = datasets.read("flickr8k", data, "dev")
    references = [one.captions for one in records]
    source = tmp_path / "c.json"
    source.write_text(json.dumps({one.image_id: "a red photo" for one in records}))
    for name, groups in (("same", references), ("more", [*references, ["a dog"], ["a cat"]])):
        tokens = [tokenize_lines(list(group)) for group in groups]
        metrics.DocumentFrequencies.of(tokens).save(tmp_path / name)
    ciders = []
    for more in ([], ["--frequencies", "same"], ["--frequencies", "more"]):
        options = [str(tmp_path / word) if word in ("same", "more") else word for word in more]
        assert run(source, "--metrics", "cider", *options) == 0
        saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
        ciders.append(saved["scores"]["CIDEr"])
        assert bool(saved["frequencies"]) == bool(more)
    assert ciders[1] == pytest.approx(ciders[0])
    assert ciders[2] != pytest.approx(ciders[0], rel=1e-3)


def test_a_captions_file_that_does_not_fit_is_refused_or_counted(run, data, tmp_path, capsys):
    names = [record.image_id for record in datasets.read("flickr8k", data, "dev")]
    entries = [{"image_id": name, "caption": "a red photo"} for name in [*names[1:], names[1]]]
    source = tmp_path / "c.json"
    source.write_text(json.dumps([*entries, {"image_id": "other.jpg", "caption": "x"}]))
    assert run(source) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(name in error for name in (names[0], names[1], "other.jpg"))
    assert run(source, "--allow-missing") == 0
    saved = json.loads((tmp_path / "out" / "scores-dev.json").read_text())
    assert saved["images"] == 7
    assert [saved["counts"][name] for name in ("missing", "extra", "repeated")] == [1, 1, 1]
    assert "1 missing, 1 extra, 1 repeated" in capsys.readouterr().out


def test_a_photo_that_cannot_be_read_is_skipped_and_makes_the_exit_code_1(
    run, model, data, tmp_path, capsys
):
    broken = sorted((data / "images").iterdir())[-1]
    broken.write_bytes(b"no photo")
    assert run(model, "--metrics", "cider") == 1
    assert f"skipped {broken.name}: " in capsys.readouterr().err
    counts = json.loads((tmp_path / "out" / "scores-dev.json").read_text())["counts"]
    assert counts["skipped"] == 1


def test_a_split_without_references_gives_captions_for_its_server(model, tmp_path, capsys):
    entries = [{"id": 40 + n, "file_name": f"{n}.png"} for n in range(3)]
    for entry in entries:
        write_png(tmp_path / "images" / entry["file_name"])
    (tmp_path / "nocaps_test.json").write_text(json.dumps({"images": entries}))
    words = ["evaluate", str(model), "nocaps", str(tmp_path / "nocaps_test.json")]
    more = ["--images", str(tmp_path / "images"), "--split", "test", "--out", str(tmp_path / "out")]
    assert cli.main([*words, *more]) == 0
    said = capsys.readouterr().err
    assert "no reference captions" in said
    assert "servers would refuse captions-test.json: 3 images, the whole split has 10600" in said
    assert list(captions_of(tmp_path / "out" / "captions-test.json")) == [40, 41, 42]
    assert not (tmp_path / "out" / "scores-test.json").exists()


def write_png(path: Path) -> None:
    """A grey picture."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), (90, 90, 90)).save(path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/model", "flickr8k", "{}"], "no/model"),
        (["mini", "flickr9k", "{}"], "flickr9k"),
        (["mini", "flickr8k", "{}", "--metrics", "bleu,blue"], '"blue"'),
        (["captions.csv", "flickr8k", "{}"], "no such captions file"),
        (["mini"], "no data is named"),
        (["mini", "flickr8k", "{}", "more"], "expected a format and its path"),
        (["mini", "flickr8k", "{}", "--clip-store", "x"], "--clip"),
        (["mini", "flickr8k", "{}", "--device", "tpu"], "device tpu"),
        (["{}/Flickr8k.token.txt", "flickr8k", "{}", "--beam", "3"], "decoding options"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(data, tmp_path, capsys, words, said):
    arguments = ["evaluate", *(word.format(data) for word in words), "--out", str(tmp_path)]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
