"""What MLRun's feature store keeps."""

from typing import Any

import mlrun
import mlrun.feature_store as fstore
import pytest
from mlrun.errors import (
    MLRunNotFoundError,
)

from churnstream.local.rundb import LocalRunDB


def test_feature_sets_and_vectors_are_stored_and_read_back(project: Any, db: LocalRunDB) -> None:
    features = fstore.FeatureSet("plays", entities=[fstore.Entity("user_id")], description="first")
    features.save()
    features.save(tag="v1", versioned=True)
    vector = fstore.FeatureVector("risk", ["plays.*"])
    vector.save()
    assert fstore.get_feature_set("river/plays:v1").spec.description == "first"
    assert mlrun.datastore.get_store_resource("store://feature-vectors/river/risk").spec.features == ["plays.*"]
    assert [each.metadata.name for each in db.list_feature_sets("river", tag="latest", entities=["user_id"])] == ["plays"]
    db.patch_feature_set("plays", {"spec": {"description": "second"}}, "river")
    assert db.get_feature_set("plays", "river").spec.description == "second"
    fstore.delete_feature_vector("risk", "river")
    with pytest.raises(MLRunNotFoundError, match="risk"):
        db.get_feature_vector("risk", "river")
