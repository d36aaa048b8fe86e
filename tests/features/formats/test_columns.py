import pytest

from alignctl.features.formats.columns import (
    Column,
    is_named_like_id,
    is_named_like_label,
    numbers_rows,
    roles_of,
)


def columns_of(**kinds):
    return [Column(name, kind, kind) for name, kind in kinds.items()]


FLOATS = {"f0": "float", "f1": "float"}
INTEGERS = {"f0": "integer", "f1": "integer"}


@pytest.mark.parametrize(
    "name",
    ["id", "image_id", "imageId", "ImageID", "filenames", "file_name", "path", "uid", "idx",
     "index", "Unnamed: 0", "sample-id", "img"],
)  # fmt: skip
def test_names_of_ids_are_known(name):
    assert is_named_like_id(name)
    assert not is_named_like_label(name)


@pytest.mark.parametrize(
    "name", ["label", "labels", "fine_label", "classId", "target", "label_id", "class_name"]
)
def test_names_of_labels_are_known_and_are_no_ids(name):
    assert is_named_like_label(name)
    assert not is_named_like_id(name)


@pytest.mark.parametrize("name", ["f0", "class_3", "image_12", "width", "identity", "x", "", "0"])
def test_numbered_names_and_others_say_nothing(name):
    assert not is_named_like_id(name)
    assert not is_named_like_label(name)


def test_an_index_numbers_rows_and_an_image_id_says_what_they_are():
    assert all(map(numbers_rows, ("index", "row", "idx", "Unnamed: 0")))
    assert not any(map(numbers_rows, ("image_id", "path", "f0", "")))


@pytest.mark.parametrize("kind", ["integer", "float", "text"])
@pytest.mark.parametrize("beside", [FLOATS, INTEGERS], ids=["floats", "integers"])
def test_a_column_named_like_an_id_is_no_feature_whatever_it_holds(kind, beside):
    roles = roles_of(columns_of(image_id=kind, **beside))
    assert roles.features == ("f0", "f1")
    assert roles.ids == ("image_id",)
    assert roles.in_doubt == ()


@pytest.mark.parametrize("kind", ["integer", "float", "text"])
@pytest.mark.parametrize("beside", [FLOATS, INTEGERS], ids=["floats", "integers"])
def test_a_column_named_like_a_label_is_neither_feature_nor_id(kind, beside):
    roles = roles_of(columns_of(**beside, label=kind))
    assert (roles.features, roles.ids, roles.in_doubt) == (("f0", "f1"), (), ())


def test_whole_numbers_beside_floats_may_be_ids_and_are_no_features():
    roles = roles_of(columns_of(n=("integer"), **FLOATS))
    assert (roles.features, roles.ids) == (("f0", "f1"), ("n",))


def test_whole_numbers_of_the_same_numbered_name_as_floats_are_features():
    roles = roles_of(columns_of(**FLOATS, f2="integer", g2="integer"))
    assert (roles.features, roles.ids) == (("f0", "f1", "f2"), ("g2",))


def test_a_whole_number_beside_numbered_ones_of_another_name_is_in_doubt():
    roles = roles_of(columns_of(**INTEGERS, cell="integer"))
    assert (roles.features, roles.in_doubt) == (("f0", "f1"), ("cell",))
    roles = roles_of(columns_of(**INTEGERS, cell="integer"), ids="cell")
    assert (roles.features, roles.ids, roles.in_doubt) == (("f0", "f1"), ("cell",), ())


def test_whole_numbers_without_names_beside_floats_are_in_doubt():
    columns = [Column("0", "float", ""), Column("1", "integer", "")]
    assert roles_of(columns).in_doubt == ("1",)


def test_the_index_is_no_feature_even_where_all_columns_are_asked_for():
    columns = [Column("f0", "float", ""), Column("n", "integer", "", is_index=True)]
    for patterns in ((), ("*",)):
        roles = roles_of(columns, patterns=patterns)
        assert (roles.features, roles.ids) == (("f0",), ("n",))


def test_lists_of_numbers_are_the_features_where_there_are_any():
    roles = roles_of(columns_of(x="list", score="float", n="integer", name="text"))
    assert (roles.features, roles.ids) == (("x",), ("n", "name"))


def test_patterns_choose_features_and_leave_ids_and_text_out():
    columns = columns_of(f0="float", n="integer", m="integer", name="text")
    assert roles_of(columns, patterns=["*"]).features == ("f0", "n", "m")
    assert roles_of(columns, patterns=["*"], ids="n").features == ("f0", "m")
    assert roles_of(columns, patterns=["f*", "m"]).features == ("f0", "m")
