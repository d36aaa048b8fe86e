import pytest

from alignctl.stand_ins import stand_in

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
IS_POINTER = "is a pointer of Git LFS in place of the file; run `git lfs pull` in its folder"
IS_PAGE = "is a web page (HTML) in place of the file; what was fetched was not the file"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (POINTER, IS_POINTER),
        (b"<!DOCTYPE html><html>", IS_PAGE),
        (b"\n  <HTML lang='en'>", IS_PAGE),
        (b"\xef\xbb\xbf<!doctype html>", IS_PAGE),
        (b"", None),
        (b"PAR1", None),
        (b"<?xml version='1.0'?><svg/>", None),
        (b"\x89PNG\r\n" + POINTER, None),
    ],
)
def test_what_lies_in_a_files_place_is_known_by_its_first_bytes(tmp_path, content, found):
    assert stand_in(content) == found
    (tmp_path / "file").write_bytes(content)
    assert stand_in(tmp_path / "file") == found


def test_a_file_that_cannot_be_read_is_nothing_known(tmp_path):
    assert stand_in(tmp_path / "nowhere") is None
    assert stand_in(tmp_path) is None
