"""A model that is not as it was signed, or not of the running features, is not served."""

import shutil
from pathlib import Path

import pytest

from churnstream.errors import ChurnstreamError, FingerprintMismatch, InvalidModel
from churnstream.models.artifact import SIGNATURE_FILE
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, digest, read_manifest
from tests.functions.river import River, in_root
from tests.functions.signing import change_manifest, resign

NAME = "serving"
MODEL = in_root("assets/model/first_day")
NAMES = read_manifest(MODEL / MANIFEST_FILE).features


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model, to tamper with."""
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def start(river: River, model: Path) -> None:
    """Start serving it; raises why the model was refused, which MLRun wraps into an error of its own."""
    try:
        with river.door(NAME, model):
            pass
    except RuntimeError as wrapped:
        raise wrapped.__cause__ or wrapped from None


def test_a_model_that_was_tampered_with_is_refused(river: River, model: Path) -> None:
    text = (model / MODEL_FILE).read_text()
    (model / MODEL_FILE).write_text(text.replace("leaf_value=", "leaf_value=0", 1))
    with pytest.raises(InvalidModel, match="is not as it was signed"):
        start(river, model)
    resign(river, model)
    with pytest.raises(InvalidModel, match="the model's text is not the one its manifest was written for"):
        start(river, model)


def test_a_model_without_a_signature_is_refused(river: River, model: Path) -> None:
    (model / SIGNATURE_FILE).unlink()
    with pytest.raises(InvalidModel, match="is not signed"):
        start(river, model)


def test_a_model_of_other_features_is_refused(river: River, model: Path) -> None:
    change_manifest(river, model, fingerprint="0123456789abcdef")
    with pytest.raises(FingerprintMismatch, match="was trained on features 0123456789abcdef, the running ones are"):
        start(river, model)


def test_a_model_of_the_same_features_in_another_order_is_refused(river: River, model: Path) -> None:
    change_manifest(river, model, features=tuple(reversed(NAMES)))
    with pytest.raises(FingerprintMismatch, match="train again on the running definitions"):
        start(river, model)


def test_a_text_that_is_no_model_is_refused_though_its_manifest_fits(river: River, model: Path) -> None:
    (model / MODEL_FILE).write_text("tree\nnonsense\n")
    change_manifest(river, model, model_sha256=digest("tree\nnonsense\n"))
    with pytest.raises(InvalidModel, match="is no LightGBM model"):
        start(river, model)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"manifest_version": 1}', b'{"manifest_version": 99}', b"\x80\x04K\x01."]
)
def test_a_model_without_a_manifest_that_can_be_read_is_refused(river: River, model: Path, content: bytes) -> None:
    (model / MANIFEST_FILE).write_bytes(content)
    resign(river, model)
    with pytest.raises(ChurnstreamError, match=r"is no model manifest|has manifest version"):
        start(river, model)
