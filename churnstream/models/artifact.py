"""The model artifact: a folder with LightGBM text, what it says about itself, its card, and a signature over them.

    model.txt       LightGBM text; no pickle is ever read
    manifest.json   ``manifest.Manifest``: features, fingerprint, label, digests, metrics, threshold, calibration
    card.md         for people
    signature.json  Ed25519 over the bytes of the first two; the manifest holds the digest of the third

Whoever serves loads a model through one function, on a folder that MLRun, a registry or a checkout brought:

    artifact = load_artifact(folder, case.features, keys)     # keys = wiring.model_keys(settings)
    artifact.text       the verified LightGBM text (str), for whoever compiles it
    artifact.booster    a lightgbm.Booster made of that text
    artifact.manifest   the verified Manifest; manifest.version names the model, manifest.threshold is a probability
    artifact.signer     the public key that signed it

``Booster.predict`` of that text *is* the calibrated probability: the two numbers of the calibration (``manifest.calibration``)
are folded into the leaves, so nobody applies them a second time, and contributions add up to the calibrated margin.

Every refusal is a sentence: InvalidModel, FingerprintMismatch (other features) or UnknownVersion (another layout).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import msgspec

from churnstream.errors import InvalidModel
from churnstream.features.definitions import FeatureTable
from churnstream.models.keys import Keys, key_id, public_key, sign, signer
from churnstream.models.manifest import CARD_FILE, MANIFEST_FILE, MODEL_FILE, Manifest, check, parse_manifest, to_json

SIGNATURE_FILE = "signature.json"
FILES = (MODEL_FILE, MANIFEST_FILE, CARD_FILE, SIGNATURE_FILE)
PASSED_BY = frozenset({"model_spec.yaml"})  # MLRun lays it beside every model it logs; it is not read here
DOMAIN = b"churnstream model 1\n"  # a signature of ours can never be taken for one of something else
ALGORITHM = "Ed25519"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``signature.json``; ``key`` is the public key, ``signature`` 128 hexadecimal digits."""

    algorithm: str
    key: str
    signature: str


@dataclass(frozen=True)
class Artifact:
    """A model that was verified; see the head of this module."""

    text: str
    manifest: Manifest
    signer: str
    booster: lgb.Booster


def load_artifact(folder: Path, features: FeatureTable | None, keys: Keys) -> Artifact:
    """Read and verify the model in ``folder``; ``features`` are the running ones, None where no vector is scored.

    Raises InvalidModel, FingerprintMismatch or UnknownVersion.
    """
    return verify(read_folder(folder), features, keys, str(folder))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file of an artifact, read once; raises InvalidModel for a missing and for an extra one."""
    if not folder.is_dir():
        raise InvalidModel(f"there is no model in {folder}: it is no folder")
    for path in sorted(folder.iterdir()):
        if path.name not in FILES and path.name not in PASSED_BY:
            raise InvalidModel(f"{folder} holds {path.name}, which is no part of a signed model; remove it")
    found = {}
    for name in FILES:
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as cause:
            sentence = f"the model in {folder} is not signed; train it again, or `churnstream models sign` it if it is your own"
            missing = name == SIGNATURE_FILE and isinstance(cause, FileNotFoundError)
            raise InvalidModel(sentence if missing else f"{folder} is no model: {name} cannot be read ({cause})") from cause
    return found


def verify(files: Mapping[str, bytes], features: FeatureTable | None, keys: Keys, where: str) -> Artifact:
    """The model of these files, by name; ``where`` is said in errors. Nothing is parsed before its signature was found good."""
    by = _verified(files, keys, where)
    manifest = parse_manifest(files[MANIFEST_FILE], where)
    if hashlib.sha256(files[CARD_FILE]).hexdigest() != manifest.card_sha256:
        raise InvalidModel(f"the {CARD_FILE} in {where} is not the one that the model was signed with")
    try:
        text = files[MODEL_FILE].decode()
        check(manifest, text, features)
        booster = lgb.Booster(model_str=text)
    except (UnicodeDecodeError, lgb.basic.LightGBMError) as cause:
        raise InvalidModel(f"the {MODEL_FILE} in {where} is no LightGBM model: {cause}") from cause
    if tuple(booster.feature_name()) != manifest.features:
        raise InvalidModel(
            f"the {MODEL_FILE} in {where} takes {', '.join(booster.feature_name())}, its manifest says"
            f" {', '.join(manifest.features)}; train it again"
        )
    return Artifact(text, manifest, by, booster)


def _verified(files: Mapping[str, bytes], keys: Keys, where: str) -> str:
    try:
        told = msgspec.json.decode(files[SIGNATURE_FILE], type=Signature)
    except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise InvalidModel(f"the {SIGNATURE_FILE} in {where} is no signature: {cause}") from cause
    if told.algorithm != ALGORITHM:
        raise InvalidModel(f"the model in {where} is signed with {told.algorithm[:20]}; this version trusts {ALGORITHM} only")
    if told.key not in keys.trusted:
        raise InvalidModel(
            f"the model in {where} is signed with the key {key_id(told.key)}, which is not trusted here; if you know whose it is,"
            " put it into keys/trusted of the home as a .pub file, or into CHURNSTREAM_TRUSTED_KEYS"
        )
    if files[SIGNATURE_FILE] != _signature_file(told) or signer(_message(files), told.signature, (told.key,)) is None:
        raise InvalidModel(
            f"the model in {where} is not as it was signed: {MODEL_FILE}, {MANIFEST_FILE} or {SIGNATURE_FILE} was changed,"
            " or cut off; fetch it again from where it was trained"
        )
    return told.key


def write_artifact(folder: Path, text: str, manifest: Manifest, card: str, private: str) -> None:
    """Write a signed model into ``folder``, which is made; ``manifest`` gets the digest of the card."""
    folder.mkdir(parents=True, exist_ok=True)
    described = msgspec.structs.replace(manifest, card_sha256=hashlib.sha256(card.encode()).hexdigest())
    (folder / MODEL_FILE).write_bytes(text.encode())
    (folder / MANIFEST_FILE).write_bytes(to_json(described))
    (folder / CARD_FILE).write_bytes(card.encode())
    sign_folder(folder, private)


def sign_folder(folder: Path, private: str) -> str:
    """Sign what lies in ``folder``, whoever signed it before; returns the public key."""
    files = {name: (folder / name).read_bytes() for name in (MODEL_FILE, MANIFEST_FILE)}
    signed = Signature(ALGORITHM, public_key(private), sign(_message(files), private))
    (folder / SIGNATURE_FILE).write_bytes(_signature_file(signed))
    return signed.key


def _message(files: Mapping[str, bytes]) -> bytes:
    """What is signed: each part with its name and length before it, so that no byte can wander from one into the other."""
    parts = [DOMAIN]
    for name in (MODEL_FILE, MANIFEST_FILE):
        parts += [f"{name} {len(files[name])}\n".encode(), files[name]]
    return b"".join(parts)


def _signature_file(signature: Signature) -> bytes:
    return msgspec.json.format(msgspec.json.encode(signature), indent=2) + b"\n"
