import pytest

from alignctl.models.reference import ModelRef


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("digits:nscl@25", ModelRef("digits", "nscl", 25)),
        ("/a b/c:d:dcl@200", ModelRef("/a b/c:d", "dcl", 200)),
        ("sweep/temperature=0.5:cl@0", ModelRef("sweep/temperature=0.5", "cl", 0)),
        ("weights.safetensors", ModelRef("weights.safetensors")),
        ("digits:nscl", ModelRef("digits:nscl")),
        ("digits:nscl@last", ModelRef("digits:nscl@last")),
        ("a:b/c@3", ModelRef("a:b/c@3")),
        (":cl@3", ModelRef(":cl@3")),
    ],
)
def test_a_reference_is_read_back_as_it_was_written(text, ref):
    assert ModelRef.parse(text) == ref
    assert str(ref) == text


def test_numbers_may_be_padded():
    assert ModelRef.parse("a:cl@0010") == ModelRef("a", "cl", 10)


@pytest.mark.parametrize(
    "parts", [("",), ("a:cl@3",), ("a", "cl"), ("a", None, 3), ("", "cl", 3), ("a", "c@1", 2),
              ("a", "b/c", 3), ("a", "cl", -1)],
)  # fmt: skip
def test_what_would_be_read_back_as_another_model_is_none(parts):
    with pytest.raises(ValueError, match="names no model"):
        ModelRef(*parts)
