"""Rows of the papers: found by dataset and split, in numbers that tables print."""

from prefixcap.published import ROWS, all_published_rows, published_domain_rows, published_rows

NAMES = {"BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE"}


def test_only_the_paper_s_own_splits_have_rows():
    assert published_rows("coco-karpathy", "test")["paper, transformer"]["CIDEr"] == 113.08
    assert published_rows("coco-karpathy", "val") == {}
    assert published_rows("flickr8k", None) == {}


def test_published_rows_are_clipcap_s_own_and_all_rows_are_everybody_s():
    own = published_rows("coco-karpathy", "test")
    titles = [row.title for row in all_published_rows("coco-karpathy", "test")]
    assert set(own) == {"paper, MLP + GPT-2 tuning", "paper, transformer"}
    assert {*own, "Oscar", "ablation: MLP, GPT-2 frozen"} < set(titles)
    assert published_rows("vizwiz", "val") == {}
    assert len(all_published_rows("vizwiz", "val")) == 3


def test_names_are_those_of_scores_and_values_x100():
    for rows in ROWS.values():
        for row in rows:
            assert set(row.scores) <= NAMES
            assert all(0 < value < 150 for value in row.scores.values())
            assert row.source
    assert sum(len(rows) for rows in ROWS.values()) == 17


def test_domains_of_nocaps_weighted_by_their_images_give_the_overall_cider():
    images = {"in-domain": 648, "near-domain": 2938, "out-domain": 914}
    for title, row in published_rows("nocaps", "val").items():
        total = sum(
            count * published_domain_rows("nocaps", "val", domain)[title]["CIDEr"]
            for domain, count in images.items()
        )
        assert abs(total / sum(images.values()) - row["CIDEr"]) < 0.01
    assert published_domain_rows("nocaps", "test", "in-domain") == {}
