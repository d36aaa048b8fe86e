import pytest

from alignctl.errors import ConfigError
from alignctl.features.feature_files import open_features


@pytest.fixture
def save(tmp_path):
    """A function of a file name and its bytes, or of what writes them: the path as text."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        return str(path)

    return write


@pytest.fixture
def refused():
    """A function of a file of features: the one line by which it is refused."""

    def refuse(text):
        with pytest.raises(ConfigError) as caught:
            open_features(text)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refuse
