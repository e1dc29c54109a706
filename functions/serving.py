"""serving: scores customers, over HTTP for whoever asks and from the stream for everyone.

An MLRun serving function: a router with one model. A request is answered with probabilities; a record of the serving stream
becomes a record of the inference stream. MLRun appends the ``init_context`` and the ``handler`` of every serving function.
"""

from pathlib import Path
from typing import Any

import mlrun
from mlrun.features import Feature
from mlrun.serving import ModelRouter, V2ModelServer

from churnstream.codecs import ARROW, decode_batch, encode_batch
from churnstream.errors import BadRequest, UnknownCustomer
from churnstream.graph.engine import StateReader
from churnstream.models.manifest import MANIFEST_FILE
from churnstream.models.requests import read_request
from churnstream.models.scoring import load_scorer, score_batch
from churnstream.records import Record
from churnstream.topology import FEATURES, INFERENCE
from churnstream.wiring import STREAM_TRIGGERS, open_parts


class ChurnRouter(ModelRouter):
    """Routes requests by path, and every record of the stream to the one model."""

    def do_event(self, event, *args, **kwargs):
        if event.trigger.kind in STREAM_TRIGGERS:
            return next(iter(self.routes.values())).run(event)
        return super().do_event(event, *args, **kwargs)


class ChurnModel(V2ModelServer):
    """A LightGBM model that fits the running features; ``model_path`` is a model artifact or a folder with its manifest."""

    model_spec: Any  # MLRun's description of the model

    def load(self):
        self.parts = open_parts("serving")
        model, extra = self.get_model(".txt")
        manifest = Path(extra[MANIFEST_FILE].local()) if MANIFEST_FILE in extra else Path(model).with_name(MANIFEST_FILE)
        self.scorer = load_scorer(Path(model), manifest, self.parts.case.features)
        if self.model_spec is None:  # a folder says nothing to MLRun, which would look for a pickle in it
            self.model_spec = described(self.name, Path(model).name, self.scorer.manifest.features)
        self.states = StateReader(self.parts.case)
        self.table = self.parts.table(FEATURES)

    def do_event(self, event, *args, **kwargs):
        if event.trigger.kind in STREAM_TRIGGERS:
            event.body = self.score_record(event)
            return event
        try:
            return super().do_event(event, *args, **kwargs)
        except UnknownCustomer as cause:
            raise mlrun.errors.MLRunNotFoundError(str(cause)) from None  # MLRun answers with the cause as well: the same again
        except BadRequest as cause:
            raise mlrun.errors.MLRunBadRequestError(str(cause)) from None

    def _initialize_model_logger(self):
        """MLRun's own monitoring, where it is asked for; every prediction is in the inference stream anyway."""
        if getattr(self.context.server, "track_models", False):
            super()._initialize_model_logger()

    def validate(self, request, operation):
        return {"asked": read_request(request, self.scorer.manifest.features, self.look_up)}

    def predict(self, request):
        return self.scorer.predict(request["asked"].matrix).tolist()

    def postprocess(self, request):
        """The protocol's answer, with the decision and the model behind each probability."""
        manifest = self.scorer.manifest
        request["model_version"] = manifest.version
        request["churns"] = [probability >= manifest.threshold for probability in request["outputs"]]
        return request

    def look_up(self, user_id):
        state = self.table.get(user_id)
        vector = None if state is None else self.states.vector(state)
        if state is None or vector is None:
            raise UnknownCustomer(f"no features are known for the customer {user_id!r}")
        return vector, self.states.newest(state)

    def score_record(self, event):
        with self.parts.begin(event) as unit:
            if unit.replayed:
                return {"replayed": True}
            scored = score_batch(decode_batch(event.body), self.scorer)
            unit.append(INFERENCE, Record(encode_batch(scored), scored.num_rows, headers={"content-type": ARROW}))
            unit.count("applied", scored.num_rows)
        return {"scored": scored.num_rows}


def described(name, file, features):
    """The model as MLRun describes one: its file, and the names and types of what goes in and comes out."""
    inputs = [Feature(name=each, value_type="float") for each in features]
    return mlrun.artifacts.ModelArtifact(
        name, model_file=file, inputs=inputs, outputs=[Feature(name="probability", value_type="float")]
    )
