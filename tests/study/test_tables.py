"""Tables of a study: scores with spread, costs, what is missing."""

from prefixcap.study.tables import problems, study_tables
from tests.study_content import content


def test_the_tables_are_of_the_split_of_training_photos_and_of_other_data():
    main, train, other = study_tables(content())
    texts = [[cell.text for cell in row] for row in main.rows]
    assert texts == [
        ["one", "40.0 ± 5.0", "2 of 2", "1,234", "2.0"],
        ["two", "60.0 ± 5.0", "2 of 2", "1,234", "2.0"],
        ["three", "", "0 of 2", "", ""],
    ]
    assert "8 images" in main.caption
    assert [cell.text for cell in train.rows[0]] == ["one", "40.0"]
    assert [cell.text for cell in other.rows[1]] == ["two", "60.0 ± 10.0"]


def test_a_mean_of_fewer_seeds_than_planned_does_not_name_all_of_them():
    found = content()
    assert "over finished runs" in study_tables(found)[0].caption
    found["rows"] = found["rows"][:2]
    assert "over 2 seeds" in study_tables(found)[0].caption


def test_before_anything_is_scored_no_images_are_named():
    split = {"name": "dev", "sources": [], "images": None, "references": None}
    caption = study_tables(content() | {"split": split})[0].caption
    assert "dev, nothing scored yet" in caption
    assert "differ" not in caption


def test_what_is_missing_is_said():
    assert problems(content()) == [
        "three: failed, too long",
        "three: failed, too long",
        "METEOR is not scored: no Java",
    ]
