"""A model is loaded as it was signed, or refused with a sentence."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from churnstream.errors import ChurnstreamError, FingerprintMismatch, InvalidModel, InvalidSetting, MissingSetting, UnknownVersion
from churnstream.features.definitions import FeatureTable
from churnstream.models.artifact import FILES, SIGNATURE_FILE, load_artifact, read_folder, sign_folder, verify, write_artifact
from churnstream.models.keys import PRIVATE, PUBLIC, Keys, new_private_key, public_key, read_keys, signing_keys
from churnstream.models.manifest import CARD_FILE, MANIFEST_FILE, MODEL_FILE, parse_manifest, to_json
from churnstream.usecases import load

SHIPPED = Path(__file__).parents[2] / "assets" / "model" / "first_day"
FEATURES = load("first_day").features
TAMPERINGS = 1_000
MINE = new_private_key()
KEYS = Keys((public_key(MINE),))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model that comes with the project, signed by a key of the test's own."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    sign_folder(folder, MINE)
    return folder


def test_the_model_that_comes_with_the_project_is_trusted_by_a_bare_checkout() -> None:
    artifact = load_artifact(SHIPPED, FEATURES, read_keys(None))
    row = np.arange(13.0).reshape(1, -1)
    assert artifact.manifest.case == "first_day"
    assert artifact.booster.predict(row) == lgb.Booster(model_str=artifact.text).predict(row)


def test_its_manifest_says_all_that_it_takes_to_use_it() -> None:
    manifest = load_artifact(SHIPPED, FEATURES, read_keys(None)).manifest
    assert manifest.features == FEATURES.names
    assert manifest.units == tuple(each.unit for each in FEATURES.features)
    assert set(manifest.dtypes) == {"float64"}
    assert (manifest.decision_s, manifest.calibration.method) == (24 * 3_600, "sigmoid")
    assert "leaks into every feature" in manifest.note
    assert {"auc", "auc_low", "auc_high", "brier", "calibration_error", "lift_at_5_percent"} <= set(manifest.metrics)


# -- a thousand tamperings ------------------------------------------------------------------------------------------------


def tamperings(files: dict[str, bytes], rng: np.random.Generator) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Kinds of tampering in turn, each at a place of its own."""
    others = [new_private_key() for _ in range(20)]

    def any_file() -> str:
        return str(rng.choice(FILES))

    def flip() -> dict[str, bytes]:
        name = any_file()
        content = bytearray(files[name])
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        return {name: bytes(content)}

    def cut() -> dict[str, bytes]:
        name = any_file()
        return {name: files[name][: rng.integers(len(files[name]))]}

    def lengthen() -> dict[str, bytes]:
        name = any_file()
        return {name: files[name] + rng.bytes(int(rng.integers(1, 9)))}

    def insert() -> dict[str, bytes]:
        name = any_file()
        at = int(rng.integers(len(files[name])))
        return {name: files[name][:at] + b" " + files[name][at:]}

    def wander() -> dict[str, bytes]:  # bytes from the end of one part to the start of the next
        count = int(rng.integers(1, 50))
        return {MODEL_FILE: files[MODEL_FILE][:-count], MANIFEST_FILE: files[MODEL_FILE][-count:] + files[MANIFEST_FILE]}

    def other_key() -> dict[str, bytes]:
        return {SIGNATURE_FILE: signed(files, others[int(rng.integers(20))])}

    def claimed_key() -> dict[str, bytes]:  # signed by somebody else, who says that it was us
        told = json.loads(signed(files, others[int(rng.integers(20))])) | {"key": public_key(MINE)}
        return {SIGNATURE_FILE: json.dumps(told).encode()}

    def zeros() -> dict[str, bytes]:
        told = json.loads(files[SIGNATURE_FILE]) | {"signature": "0" * int(rng.integers(0, 200))}
        return {SIGNATURE_FILE: json.dumps(told).encode()}

    def threshold() -> dict[str, bytes]:
        told = json.loads(files[MANIFEST_FILE]) | {"threshold": float(rng.random())}
        return {MANIFEST_FILE: json.dumps(told, indent=2).encode()}

    kinds: list[Callable[[], dict[str, bytes]]] = [
        flip, flip, flip, cut, lengthen, insert, wander, other_key, claimed_key, zeros, threshold,
    ]  # fmt: skip
    for place in range(TAMPERINGS):
        kind = kinds[place % len(kinds)]
        yield kind.__name__, files | kind()


def signed(files: dict[str, bytes], private: str) -> bytes:
    """The signature of these files by another key."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (MODEL_FILE, MANIFEST_FILE):
            (Path(folder) / name).write_bytes(files[name])
        sign_folder(Path(folder), private)
        return (Path(folder) / SIGNATURE_FILE).read_bytes()


def test_of_a_thousand_tamperings_a_thousand_are_refused(model: Path) -> None:
    files = read_folder(model)
    verify(files, FEATURES, KEYS, "the model")
    refused: dict[str, int] = {}
    for kind, tampered in tamperings(files, np.random.default_rng(6)):
        assert tampered != files, kind
        with pytest.raises(ChurnstreamError) as caught:
            verify(tampered, FEATURES, KEYS, "the model")
        assert "the model" in str(caught.value), kind
        refused[kind] = refused.get(kind, 0) + 1
    assert sum(refused.values()) == TAMPERINGS
    assert min(refused.values()) >= 90


# -- each kind, by its sentence, from the folder --------------------------------------------------------------------------


def refused(folder: Path, keys: Keys = KEYS, features: FeatureTable = FEATURES) -> str:
    with pytest.raises(ChurnstreamError) as caught:
        load_artifact(folder, features, keys)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_an_untouched_copy_is_loaded(model: Path) -> None:
    assert load_artifact(model, FEATURES, KEYS).signer == public_key(MINE)


def test_a_flipped_byte_in_a_leaf_is_refused(model: Path) -> None:
    content = bytearray((model / MODEL_FILE).read_bytes())
    content[content.index(b"leaf_value=") + len(b"leaf_value=") + 3] ^= 1
    (model / MODEL_FILE).write_bytes(content)
    assert "is not as it was signed" in refused(model)


def test_a_cut_file_is_refused(model: Path) -> None:
    content = (model / MODEL_FILE).read_bytes()
    (model / MODEL_FILE).write_bytes(content[: len(content) // 2])
    assert "or cut off; fetch it again from where it was trained" in refused(model)


def test_a_card_of_another_model_is_refused(model: Path) -> None:
    (model / CARD_FILE).write_text("# The best model there is\n")
    assert "the card.md in" in refused(model)


def test_an_extra_file_is_refused(model: Path) -> None:
    (model / "model.pkl").write_bytes(b"")
    assert "holds model.pkl, which is no part of a signed model; remove it" in refused(model)


def test_a_file_that_mlrun_lays_beside_its_models_is_passed_by(model: Path) -> None:
    (model / "model_spec.yaml").write_text("kind: model\n")
    load_artifact(model, FEATURES, KEYS)


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE, CARD_FILE])
def test_a_missing_file_is_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    assert f"is no model: {name} cannot be read" in refused(model)


def test_a_model_that_nobody_signed_is_refused(model: Path) -> None:
    (model / SIGNATURE_FILE).unlink()
    assert "is not signed; train it again, or `churnstream models sign` it" in refused(model)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "it is no folder" in refused(tmp_path / "nowhere")


def test_a_model_that_a_stranger_signed_is_refused_and_their_key_is_named(model: Path) -> None:
    stranger = new_private_key()
    sign_folder(model, stranger)
    assert f"the key {public_key(stranger)[:16]}, which is not trusted here; if you know whose it is" in refused(model)


def test_another_algorithm_is_refused(model: Path) -> None:
    told = json.loads((model / SIGNATURE_FILE).read_bytes()) | {"algorithm": "none"}
    (model / SIGNATURE_FILE).write_text(json.dumps(told))
    assert "is signed with none; this version trusts Ed25519 only" in refused(model)


def test_of_two_models_with_one_key_the_parts_cannot_be_mixed(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    before = load_artifact(model, FEATURES, KEYS)
    text = before.text.replace("learning_rate: 0.04", "learning_rate: 0.05")
    assert text != before.text
    write_artifact(other, text, before.manifest, "# Another\n", MINE)
    shutil.copy(other / MODEL_FILE, model / MODEL_FILE)
    assert "is not as it was signed" in refused(model)


# -- what is signed, and does not fit all the same ------------------------------------------------------------------------


def sign_again(folder: Path, **changes: object) -> None:
    """Change the manifest and sign it, as somebody with the key would."""
    told = json.loads((folder / MANIFEST_FILE).read_bytes()) | changes
    (folder / MANIFEST_FILE).write_text(json.dumps(told))
    sign_folder(folder, MINE)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (FEATURES.names[1:], "it lacks socioeconomic_idx; train again on the running definitions"),
        (tuple(reversed(FEATURES.names)), "the names are the same in another order; train again"),
        ((*FEATURES.names, "mood"), "it takes mood, which the running ones lack; train again"),
    ],
)
def test_a_missing_a_reordered_and_an_unknown_feature_are_refused(model: Path, names: tuple[str, ...], sentence: str) -> None:
    sign_again(model, features=names)
    told = refused(model)
    assert told.startswith(FingerprintMismatch.__name__)
    assert sentence in told


def test_features_of_another_meaning_are_refused(model: Path) -> None:
    changed = replace(FEATURES, lateness=FEATURES.lateness * 2)
    told = refused(model, features=changed)
    assert f"was trained on features {FEATURES.fingerprint}, the running ones are {changed.fingerprint}" in told


def test_a_text_that_takes_other_features_than_its_manifest_says_is_refused(model: Path) -> None:
    manifest = parse_manifest((model / MANIFEST_FILE).read_bytes(), "it")
    data = lgb.Dataset(np.random.default_rng(0).random((100, 2)), np.arange(100) % 2, feature_name=["a", "b"])
    text = lgb.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 2).model_to_string()
    (model / MODEL_FILE).write_text(text)
    sign_again(model, model_sha256=hashlib.sha256(text.encode()).hexdigest())
    assert f"takes a, b, its manifest says {', '.join(manifest.features)}" in refused(model)


def test_a_text_that_is_no_model_is_refused(model: Path) -> None:
    (model / MODEL_FILE).write_text("tree\nnonsense\n")
    sign_again(model, model_sha256=hashlib.sha256(b"tree\nnonsense\n").hexdigest())
    assert "is no LightGBM model" in refused(model)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"manifest_version": 1}'])
def test_a_manifest_of_another_layout_is_refused(model: Path, content: bytes) -> None:
    (model / MANIFEST_FILE).write_bytes(content)
    sign_folder(model, MINE)
    told = refused(model)
    assert told.startswith((InvalidModel.__name__, UnknownVersion.__name__))


def test_a_manifest_reads_as_it_was_written() -> None:
    manifest = load_artifact(SHIPPED, FEATURES, read_keys(None)).manifest
    assert parse_manifest(to_json(manifest), "it") == manifest


# -- keys -----------------------------------------------------------------------------------------------------------------


def test_the_first_training_makes_a_pair_that_only_its_owner_can_read(tmp_path: Path) -> None:
    keys = signing_keys(tmp_path)
    assert (tmp_path / "keys" / PRIVATE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys" / PUBLIC).read_text().strip() == public_key(keys.private) in keys.trusted
    assert signing_keys(tmp_path) == keys == read_keys(tmp_path)


def test_a_home_without_keys_trusts_the_project_and_nobody_else(tmp_path: Path) -> None:
    keys = read_keys(tmp_path)
    assert (len(keys.trusted), keys.signing) == (1, None)
    assert not (tmp_path / "keys").exists()
    with pytest.raises(MissingSetting):
        keys.private  # noqa: B018


def test_two_homes_do_not_trust_each_other_until_a_key_is_laid_into_one(model: Path, tmp_path: Path) -> None:
    here, there = signing_keys(tmp_path / "here"), signing_keys(tmp_path / "there")
    sign_folder(model, there.private)
    assert "is not trusted here" in refused(model, here)
    trusted = tmp_path / "here" / "keys" / "trusted"
    trusted.mkdir()
    shutil.copy(tmp_path / "there" / "keys" / PUBLIC, trusted / "there.pub")
    load_artifact(model, FEATURES, read_keys(tmp_path / "here"))


def test_on_a_cluster_keys_come_from_settings(model: Path) -> None:
    trained = signing_keys(None, signing=MINE)
    assert trained.private == MINE
    load_artifact(model, FEATURES, read_keys(None, trusted=f"{public_key(new_private_key())}, {public_key(MINE)}"))
    with pytest.raises(InvalidSetting, match="no key is set: put 64 hexadecimal digits into the secret CHURNSTREAM_SIGNING_KEY"):
        signing_keys(None)


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    signing_keys(tmp_path)
    (tmp_path / "keys" / PRIVATE).chmod(0o644)
    with pytest.raises(InvalidSetting, match=r"others than its owner may read .*: chmod 600"):
        read_keys(tmp_path)


@pytest.mark.parametrize("text", ["short", "g" * 64, "0" * 63])
def test_what_is_no_key_is_a_sentence(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="CHURNSTREAM_TRUSTED_KEYS holds no key: a key is 64 hexadecimal digits"):
        read_keys(None, trusted=text)
    with pytest.raises(InvalidSetting, match="CHURNSTREAM_SIGNING_KEY holds no key"):
        read_keys(None, signing=text)


def test_a_private_key_is_not_printed() -> None:
    assert MINE not in repr(Keys((), MINE))
