import unicodedata

import pytest

from alignctl.datasets.folder_layout import test_folder as find_test_folder
from alignctl.datasets.folder_layout import training_folder
from alignctl.errors import ConfigError, MissingSplitError


@pytest.fixture
def make(tmp_path):
    """A function of files: the folder that holds them."""

    def build(*files):
        for file in files:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return build


TRAIN = "train/cat/1.png", "train/dog/2.png"


@pytest.mark.parametrize("name", ["train", "Train", "TRAIN", "training", "Training"])
def test_the_training_split_is_found_by_its_usual_names(make, name):
    root = make(f"{name}/cat/1.png", f"{name}/dog/2.png", "trains/x/1.png")
    found = training_folder(root)
    assert found.path == root / name
    assert dict(found.classes) == {"cat": root / name / "cat", "dog": root / name / "dog"}
    assert found.is_labelled


@pytest.mark.parametrize(
    "name", ["test", "Test", "testing", "val", "valid", "Valid", "validation", "VALIDATION"]
)
def test_the_test_split_is_found_by_its_usual_names(make, name):
    root = make(*TRAIN, f"{name}/dog/3.png", f"{name}/cat/4.png")
    found, notices = find_test_folder(root, training_folder(root))
    assert (found.path, tuple(found.classes), notices) == (root / name, ("cat", "dog"), ())


def test_test_comes_before_val_where_both_are_labelled(make):
    root = make(*TRAIN, "val/dog/3.png", "test/cat/4.png", "valid/dog/3.png")
    assert find_test_folder(root, training_folder(root))[0].path == root / "test"


def test_names_that_differ_in_case_only_are_one_too_many(make):
    root = make("Train/cat/1.png", "TRAIN/cat/1.png")
    with pytest.raises(ConfigError, match=r"has TRAIN/ and Train/, of which one is to go$"):
        training_folder(root)
    make("train/cat/1.png")
    assert training_folder(root).path == root / "train"


@pytest.mark.parametrize(
    ("unlabelled", "contents"),
    [
        ("test/9.JPEG", "1 image"),
        ("test/images/9.JPEG", "the folder images/"),
        ("test/unknown/9.JPEG", "the folder unknown/"),
    ],
)
def test_a_labelled_val_stands_in_for_a_test_split_without_labels(make, unlabelled, contents):
    root = make(*TRAIN, unlabelled, "val/cat/3.JPEG", "val/dog/4.JPEG")
    found, notices = find_test_folder(root, training_folder(root))
    assert found.path == root / "val"
    assert notices == (
        f"'{root}/val' is the test split: '{root}/test' has no class of '{root}/train' "
        f"(it holds {contents})",
    )


def test_training_images_alone_have_no_test_split(make):
    root = make(*TRAIN, "test/1.png")
    with pytest.raises(MissingSplitError) as error:
        find_test_folder(root, training_folder(root))
    assert str(error.value) == (
        f"dataset.path: '{root}' has no folder test/ or val/ (or valid/, validation/, testing/) "
        f"with a class of '{root}/train'; "
        f"'{root}/test' has none (it holds 1 image); dataset.test_fraction=0.2 sets a part of the "
        "training images aside"
    )


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], "it is empty"),
        (["a.txt"], "it holds 1 other file"),
        (["train.zip", "a.csv", "b.csv"], "it holds 3 other files"),
        (["trian/x/y.png", "test/x/1.png"], "it holds the folders test/, trian/"),
        (
            ["sub/train/x/1.png", "a.png"],
            "it holds the folder sub/ and 1 image; pass dataset.path={root}/sub, which has one",
        ),
        (
            ["cat/1.png", "dog/2.png", ".git/x", "__MACOSX/y"],
            "it holds the folders cat/, dog/; if these are classes, move them into a new folder "
            "train/, and where there are no test images set dataset.test_fraction=0.2 or evaluate "
            "on train alone",
        ),
        (
            [f"c{number:02}/x/1.png" for number in range(12)],
            "it holds the folders c00/, c01/, c02/, c03/, c04/, c05/, c06/, c07/, c08/, c09/, ... "
            "(12 in all)",
        ),
    ],
)
def test_a_folder_without_train_is_refused_with_what_it_holds(make, files, told):
    root = make(*files)
    with pytest.raises(ConfigError) as error:
        training_folder(root)
    told = told.format(root=root)
    assert str(error.value) == f"dataset.path: '{root}' has no folder train/; {told}"


@pytest.mark.parametrize("files", [["train/a.png", "train/b.jpg"], ["a.png", "test/b.png"]])
def test_images_that_lie_in_no_folder_of_a_class_have_no_label(make, files):
    root = make(*files)
    found = training_folder(root)
    assert not found.is_labelled
    assert tuple(found.classes) == ("unlabelled",)


def test_a_folder_of_a_class_may_be_called_unlabelled(make):
    assert training_folder(make("train/unlabelled/a.png")).is_labelled


@pytest.mark.parametrize("tool", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "lost+found"])
def test_tool_made_folders_are_no_classes(make, tool):
    assert tuple(training_folder(make(*TRAIN, f"train/{tool}/x.png")).classes) == ("cat", "dog")


def test_linked_folders_are_classes(make, tmp_path):
    root = make("train/cat/1.png", "store/2.png")
    (root / "train/dog").symlink_to(tmp_path / "store")
    assert tuple(training_folder(root).classes) == ("cat", "dog")


@pytest.mark.parametrize(("first", "second"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("name", ["café", "Ångström", "한국어", "ネコのが"])
def test_names_in_either_form_of_unicode_are_one_class(make, name, first, second):
    train, test = unicodedata.normalize(first, name), unicodedata.normalize(second, name)
    assert train != test
    root = make(f"train/{train}/1.png", "train/dog/1.png", f"test/{test}/2.png")
    folder = training_folder(root)
    found, _ = find_test_folder(root, folder)
    composed = unicodedata.normalize("NFC", name)
    assert set(folder.classes) == {composed, "dog"}
    assert found.classes[composed] == root / "test" / test


def test_two_classes_whose_names_look_the_same_are_refused_with_their_letters(make):
    root = make("train/é/1.png", f"train/{unicodedata.normalize('NFD', 'é')}/2.png")
    with pytest.raises(ConfigError) as error:
        training_folder(root)
    assert str(error.value) == (
        f"dataset.path: '{root}/train' has two folders 'é', which differ in the form of their "
        "accents only (U+0065 U+0301 and U+00E9); join them"
    )
