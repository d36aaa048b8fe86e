import numpy as np
import pytest

from alignctl.errors import ConfigError
from alignctl.features.feature_files import CheckedFeatures, FeatureFile, open_features
from alignctl.features.formats.ids import ALIKE, COUNTED, NAMED, NUMBERED, Ids, as_ids
from alignctl.features.row_order import row_order

N = 6
LETTERS = list("abcdef")
TURNED = [4, 0, 5, 1, 3, 2]
"""Rows of the first file, in the order in which the second has them."""


def ids(values, name="id", rank=NAMED):
    return Ids(name, as_ids(np.asarray(values)), rank)


def turned(values):
    return [values[row] for row in TURNED]


def files(*both):
    """Two files of so many rows as their ids."""
    names = zip(("a.npz", "b.npz"), both, strict=True)
    return [FeatureFile(None, N, 1, name, None, ids=tuple(found)) for name, found in names]


def order_of(first, second):
    return row_order(*files(first, second))


def refused(first, second):
    with pytest.raises(ConfigError) as error:
        order_of(first, second)
    assert "\n" not in str(error.value)
    return str(error.value)


WAYS_OUT = "--ids COLUMN names other ids, --ids none compares rows as they lie"


@pytest.mark.parametrize("values", [LETTERS, list(range(10, 16)), [f"{i}.png" for i in range(N)]])
def test_rows_in_another_order_are_joined(values):
    order = order_of([ids(values)], [ids(turned(values))])
    assert [turned(values)[row] for row in order.second] == values
    assert order.ids == ("id", "id")
    assert order.said == "ids: id; rows of b.npz were put in the order of a.npz"


@pytest.mark.parametrize("values", [LETTERS, list("aabbcc"), [1, 1, 2, 2, 3, 3]])
def test_the_same_ids_in_the_same_order_leave_rows_as_they_lie(values):
    order = order_of([ids(values)], [ids(values, "path")])
    assert (order.ids, order.second) == (("id", "path"), None)
    assert order.said == "ids: id and path, the same in the same order"


def test_a_number_and_its_text_are_one_id():
    values = list(range(8, 8 + N))
    order = order_of([ids(values)], [ids([str(value) for value in turned(values)])])
    assert [turned(values)[row] for row in order.second] == values
    assert "'08'" in refused([ids(values)], [ids(["08", *map(str, values[1:])])])


def test_ids_of_different_images_are_refused_with_what_is_missing():
    said = refused([ids(LETTERS)], [ids(list("abxyz"))])
    assert said == (
        "ids (id) of different images: 4 of 6 ids of a.npz are not in b.npz ('c', 'd', 'e', ...); "
        f"3 of 5 ids of b.npz are not in a.npz ('x', 'y', 'z'); {WAYS_OUT}"
    )
    said = refused([ids(LETTERS)], [ids(LETTERS[1:])])
    assert "1 of 6 ids of a.npz are not in b.npz ('a'); --ids" in said


@pytest.mark.parametrize("values", [list("abcdec"), [1, 2, 3, 4, 5, 3]])
def test_ids_that_repeat_cannot_be_joined(values):
    said = refused([ids(values)], [ids(turned(values))])
    assert said == (
        f"a.npz: id {values[2]!r} (id) stands in row 2 and in row 5, so that rows in another order "
        f"cannot be joined; {WAYS_OUT}"
    )


def test_ids_of_one_file_alone_are_said_to_be_of_no_use():
    for pair, names in ((([ids(LETTERS)], []), "ab"), (([], [ids(LETTERS)]), "ba")):
        order = order_of(*pair)
        assert (order.ids, order.second) == (None, None)
        assert order.said == (
            f"{names[0]}.npz has ids (id) and {names[1]}.npz has none: "
            "rows are compared as they lie"
        )


def test_without_ids_there_is_nothing_to_say():
    assert order_of([], []).said == ""
    counted = ids(range(N), "index", COUNTED)
    assert order_of([counted], [counted]).said == order_of([counted], []).said == ""


def test_counted_rows_are_joined_with_an_index_of_the_same_numbers_and_no_other():
    counted = ids(range(N), "index", COUNTED)
    order = order_of([counted], [ids(TURNED, "index", NUMBERED)])
    assert [TURNED[row] for row in order.second] == list(range(N))
    order = order_of([counted], [ids([9, 2, 7, 1, 4, 30], "index", NUMBERED)])
    assert order.said.startswith("b.npz has ids (index) and a.npz has none")
    order = order_of([counted], [ids(TURNED, "image_id")])
    assert order.said.startswith("b.npz has ids (image_id) and a.npz has none")


def test_named_ids_are_trusted_more_than_an_index_and_an_index_more_than_what_looks_like_ids():
    same = ids(range(N), "index", NUMBERED)
    order = order_of([same, ids(LETTERS)], [same, ids(turned(LETTERS))])
    assert order.ids == ("id", "id")
    assert order.second is not None
    order = order_of([ids(TURNED, "n", ALIKE), same], [ids(range(N), "n", ALIKE), same])
    assert (order.ids, order.second) == (("index", "index"), None)


def test_named_ids_of_different_images_are_refused_although_an_index_is_the_same():
    same = ids(range(N), "index", NUMBERED)
    assert "of different images" in refused([same, ids(LETTERS)], [same, ids(list("uvwxyz"))])


def test_ids_of_the_same_name_are_compared_before_others():
    first = [ids(LETTERS, "path"), ids(list("uvwxyz"), "name")]
    second = [ids(LETTERS, "name"), ids(turned(LETTERS), "path")]
    assert "ids (name) of different images" in refused(first, second)
    assert order_of(first, second[1:]).ids == ("path", "path")


def test_ids_that_lead_to_different_orders_are_refused_with_what_settles_it():
    first = [ids(LETTERS, "path"), ids(range(N), "uid")]
    second = [ids(turned(LETTERS), "path"), ids(range(N), "uid")]
    assert refused(first, second) == (
        "a.npz and b.npz: path and uid bring the rows into different orders; "
        "choose with --ids path or --ids uid"
    )


def test_ids_that_repeat_have_to_agree_with_those_that_do_not():
    names = list("xxyyzz")
    first = [ids(names, "name"), ids(LETTERS, "path")]
    order = order_of(first, [ids(turned(names), "name"), ids(turned(LETTERS), "path")])
    assert order.ids == ("path", "path")
    said = refused(first, [ids(turned(names)[::-1], "name"), ids(turned(LETTERS), "path")])
    assert said.startswith("a.npz: id 'x' (name) stands in row 0 and in row 1")


def test_a_number_that_is_missing_is_named_by_its_row_in_the_file(tmp_path):
    values = np.arange(6.0)[:, None]
    values[4] = np.nan
    np.save(tmp_path / "a.npy", values)
    file = open_features(str(tmp_path / "a.npy"))
    features = CheckedFeatures(file, "a.npy", np.array([5, 3, 0, 4, 1, 2]))
    assert features.rows(slice(0, 3)).tolist() == [[5.0], [3.0], [0.0]]
    with pytest.raises(ValueError, match=r"^a\.npy, row 4, column 0: nan$"):
        features.rows(slice(2, 5))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.uint64([2**63, 1]), [str(2**63), "1"]),
        (np.float32([3, 4]), [3, 4]),
        (np.float32([3, 4.5]), None),
        (np.float64([3, np.nan]), None),
        (np.float64([1e300, 1]), None),
        (np.array([b"a", b"\xff"]), ["a", "\\xff"]),
        (np.array(["a", None, float("nan")], object), ["a", None, None]),
        (np.array([3, 4], object), [3, 4]),
        (np.array([True, False]), None),
        (np.array([{}], object), None),
        (np.array(["2020-01-02"], "M8[D]"), ["2020-01-02"]),
    ],
    ids=str,
)
def test_ids_are_whole_numbers_or_text(values, expected):
    found = as_ids(values)
    assert (None if found is None else found.tolist()) == expected
