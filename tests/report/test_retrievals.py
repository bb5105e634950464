from __future__ import annotations

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.report.retrievals import Confusion, Hub, Retrievals


def write(folder, similarity, queries, gallery):
    folder.mkdir(exist_ok=True)
    matrix = np.array(similarity, dtype=np.float32)
    np.savez(folder / "predictions.npz", similarity=matrix, query_ids=np.array(queries), gallery_ids=np.array(gallery))
    return Retrievals(folder)


@pytest.fixture
def small(tmp_path):
    similarity = [
        [0.9, 0.1, 0.2, 0.3],  # a: first, margin 0.6
        [0.5, 0.8, 0.7, 0.0],  # b: first, margin 0.1
        [0.9, 0.1, 0.2, 0.3],  # c: third
        [0.9, 0.5, 0.6, 0.1],  # d: fourth
    ]
    return write(tmp_path / "run", similarity, list("abcd"), list("abcd"))


def test_ranks_best_and_worst_by_hand(small):
    assert small.ranks.tolist() == [1, 1, 3, 4]
    assert small.top1 == 0.5
    assert [r.stimulus_id for r in small.best(5)] == ["a", "b"]
    assert [r.margin for r in small.best(5)] == pytest.approx([0.6, 0.1])
    assert [(r.stimulus_id, r.rank) for r in small.worst(5)] == [("d", 4), ("c", 3)]
    assert [r.stimulus_id for r in small.worst(1)] == ["d"]


def test_second_place_is_no_success(tmp_path):
    found = write(tmp_path / "run", [[0.5, 0.6], [0.1, 0.2]], ["a", "b"], ["a", "b"])
    assert [(r.stimulus_id, r.rank) for r in found.worst(5)] == [("a", 2)]
    assert [r.stimulus_id for r in found.best(5)] == ["b"]


def test_neighbours_come_nearest_first_and_the_shown_one_is_marked(small):
    (worst,) = small.worst(1)
    assert [n.stimulus_id for n in worst.neighbours] == ["a", "c", "b", "d"]
    assert [n.shown for n in worst.neighbours] == [False, False, False, True]
    assert [n.similarity for n in worst.neighbours] == pytest.approx([0.9, 0.6, 0.5, 0.1])


def test_hubs_count_wrong_first_places(small):
    assert small.hubs(3) == [Hub("a", 2)]


def test_confusions_put_mutual_pairs_first_then_the_clearest(tmp_path):
    similarity = [
        [0.2, 0.4, 0.0, 0.0],  # a taken for b
        [0.6, 0.1, 0.0, 0.0],  # b taken for a
        [0.0, 0.9, 0.1, 0.0],  # c taken for b, one way, clearly
        [0.0, 0.0, 0.3, 0.2],  # d taken for c, barely
    ]
    found = write(tmp_path / "run", similarity, list("abcd"), list("abcd"))
    rows = np.array(similarity)
    lead = [0.2, 0.5, 0.8, 0.1] / rows.std(axis=1)
    assert [(c.shown, c.taken_for, c.queries, c.mutual) for c in found.confusions(9)] == [
        ("a", "b", 2, True),
        ("c", "b", 1, False),
        ("d", "c", 1, False),
    ]
    assert [c.deficit for c in found.confusions(9)] == pytest.approx([lead[:2].mean(), lead[2], lead[3]], rel=1e-5)
    assert len(found.confusions(1)) == 1


def test_confusions_count_queries_and_leave_ties_out(tmp_path):
    found = write(tmp_path / "run", [[0.1, 0.3], [0.1, 0.5], [0.4, 0.4]], ["a", "a", "b"], ["a", "b"])
    (pair,) = found.confusions(5)
    assert pair == Confusion("a", "b", 2, False, pytest.approx(2.0))
    assert write(tmp_path / "perfect", np.eye(3), list("abc"), list("abc")).confusions(5) == []


def test_cumulative_shares_by_hand(small):
    ks, shares = small.cumulative()
    assert ks.tolist() == [1, 2, 3, 4]
    assert shares.tolist() == [0.5, 0.5, 0.75, 1.0]


def test_cumulative_of_ties_is_chance(tmp_path):
    names = [f"i{i}" for i in range(10)]
    ks, shares = write(tmp_path / "run", np.zeros((10, 10)), names, names).cumulative()
    assert shares == pytest.approx(ks / 10)


def test_drawn_is_the_same_each_time_and_not_by_score(small):
    assert [r.stimulus_id for r in small.drawn(3)] == [r.stimulus_id for r in small.drawn(3)]
    assert len(small.drawn(9)) == 4


def test_an_image_shown_twice_appears_once(tmp_path):
    similarity = [[0.9, 0.1], [0.8, 0.1], [0.9, 0.1]]
    found = write(tmp_path / "run", similarity, ["a", "a", "b"], ["a", "b"])
    assert [r.stimulus_id for r in found.best(5)] == ["a"]


def test_query_outside_the_gallery(tmp_path):
    with pytest.raises(InputError, match="query 'z' is not in the gallery"):
        write(tmp_path / "run", [[0.1, 0.2]], ["z"], ["a", "b"])
