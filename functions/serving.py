"""serving: scores customers, over HTTP for whoever asks and from the stream for everyone.

An MLRun serving function: a router with one model. A request is answered as the Open Inference Protocol says it; a record of the
serving stream becomes a record of the inference stream. MLRun appends its own ``init_context`` and ``handler`` to every serving
function. ``answer`` may stand in front of that handler: it gives a request of the protocol the same answer, by the shortest way.
"""

import asyncio
from pathlib import Path
from typing import Any

import mlrun
import msgspec
from mlrun.features import Feature
from mlrun.serving import ModelRouter, V2ModelServer

from churnstream.codecs import ARROW, decode_batch, encode_batch
from churnstream.errors import BadRequest, InvalidModel, UnknownCustomer, UnknownModel
from churnstream.models.artifact import FILES, verify
from churnstream.models.manifest import MODEL_FILE
from churnstream.operations import figures
from churnstream.records import Record
from churnstream.serving.figures import figures as of_model
from churnstream.serving.keeping import Shadows
from churnstream.serving.lookup import Customers
from churnstream.serving.protocol import Service
from churnstream.serving.requests import read_request
from churnstream.serving.rollout import Rollout, candidates_of
from churnstream.serving.scoring import load_folder, of_artifact
from churnstream.serving.served import ServedModel, shadow_rows
from churnstream.serving.streamed import score_batch, shadow_batch
from churnstream.serving.switching import Follower
from churnstream.serving.withdrawing import Withdrawing
from churnstream.topology import FEATURES, INFERENCE
from churnstream.usecases.case import KEY
from churnstream.wiring import STREAM_TRIGGERS, model_keys, open_parts, open_registry, open_withdrawals

CHAMPION = "champion"  # the model_path of who follows the registry
SERVED: dict[str, ServedModel] = {}  # the models at work in this process
SERVICE = Service(SERVED)


def answer(context, event):
    """The function's handler, named so in ``spec.function_handler``: what MLRun's handler answers, without its detours."""
    if event.trigger.kind in STREAM_TRIGGERS or is_tracked(context):
        return context.mlrun_handler(context, event)
    reply = SERVICE.answer(event.method, event.path, event.fields, event.headers, event.body)
    return context.Response(
        body=reply.encoded(), status_code=reply.status, content_type=reply.content_type, headers=dict(reply.headers)
    )


def is_tracked(context):
    """Whether MLRun's own monitoring was asked for, which wants to see every request."""
    return bool(getattr(getattr(context, "_server", None), "track_models", False))


class ChurnRouter(ModelRouter):
    """Answers requests as the protocol says, and hands every record of the stream to the one model."""

    def do_event(self, event, *args, **kwargs):
        if event.trigger.kind in STREAM_TRIGGERS:
            return next(iter(self.routes.values())).run(event)
        if getattr(self.context.server, "track_models", False):
            return super().do_event(event, *args, **kwargs)
        reply = SERVICE.answer(event.method or "POST", event.path, getattr(event, "fields", None), event.headers, event.body)
        if reply.status == 200 and not isinstance(reply.body, bytes):
            event.body = msgspec.to_builtins(reply.body)
        else:
            event.body = self.context.Response(
                body=reply.encoded(), status_code=reply.status, content_type=reply.content_type, headers=dict(reply.headers)
            )
        return event


class ChurnModel(V2ModelServer):
    """A LightGBM model that fits the running features.

    ``model_path`` is a model artifact, a folder with a manifest, or ``champion``: the registry's, whoever that is at the moment.
    ``candidates`` may name others beside it: ``[{"role": "canary", "model_path": ..., "share": 0.1}]``, with the roles canary,
    variant and shadow. One that was withdrawn, here or in another worker, answers nobody until it is readmitted.
    """

    model_spec: Any  # MLRun's description of the model

    def load(self):
        self.parts = open_parts("serving")
        features = self.parts.case.features
        scorer = self.load_champion() if self.model_path == CHAMPION else self.load_given()
        if self.model_spec is None:  # a folder says nothing to MLRun, which would look for a pickle in it
            self.model_spec = described(self.name, MODEL_FILE, features.names)
        candidates = candidates_of(self.get_param("candidates", []), self.load_folder)
        settings = self.parts.settings
        table = self.parts.table(FEATURES)
        customers = Customers(self.parts.case, table, self.parts.clock, settings.staleness, settings.cached_customers)
        customers.warm()
        platform = getattr(self.context, "platform", None)  # none in a try-out
        self.shadows = Shadows(self.write_shadows, settings.shadow_age, call_later() if platform is not None else None)
        self.followers: list[Any] = []
        rollout = Rollout(scorer, candidates, tell=self.rolled_back)
        self.served = ServedModel(self.name, features, rollout, customers, self.keep_shadows)
        if candidates:
            self.follow_withdrawals()
        if self.model_path == CHAMPION:
            self.follow(scorer.manifest.version)
        SERVED[self.name] = self.served
        if platform is not None:
            platform.set_drain_callback(self.shadows.flush)
            platform.set_termination_callback(self.end)
            figures.tell(self.figures)
            for each in self.followers:
                each.start()

    def load_given(self):
        """MLRun brings a logged model file by file; a folder lies there."""
        model, extra = self.get_model(".txt")
        if self.model_spec is None:
            return self.load_folder(Path(model).parent)
        files = {name: extra[name].get() for name in FILES if name in extra} | {MODEL_FILE: Path(model).read_bytes()}
        missing = [name for name in FILES if name not in files]
        if missing:
            raise InvalidModel(f"the model {self.model_path} was logged without {missing[0]}; train it again (notebook 4b)")
        return of_artifact(verify(files, self.parts.case.features, model_keys(self.parts.settings), self.model_path))

    def load_folder(self, folder):
        return load_folder(Path(folder), self.parts.case.features, model_keys(self.parts.settings))

    def load_champion(self, version=""):
        registry = open_registry(self.parts.settings)
        if not version:
            champion = registry.champion()
            if champion is None:
                raise UnknownModel("the registry has no champion; train a model and promote it (notebook 4b)")
            version = champion.version
        return self.load_folder(registry.artifact(version))

    def follow(self, version):
        registry = open_registry(self.parts.settings)
        self.followers.append(
            Follower(version, lambda: found.version if (found := registry.champion()) else None, self.load_champion, self.take)
        )

    def follow_withdrawals(self):
        if self.parts.settings.models is None:
            self.context.logger.warning("CHURNSTREAM_MODELS is not set: a rollback of a candidate holds in its own worker only")
            return
        withdrawals = open_withdrawals(self.parts.settings)
        withdrawing = Withdrawing(lambda: self.served.rollout, withdrawals, self.parts.clock)
        withdrawing.look()  # before anybody is answered
        self.followers.append(withdrawing)

    def rolled_back(self):
        for each in self.followers:
            each.wake()

    def end(self):
        """Leave nothing behind."""
        for each in self.followers:
            each.stop()
        figures.end(self.figures)
        self.shadows.flush()

    def figures(self):
        return of_model(self.served)

    def take(self, scorer):
        """Serve another champion from the next request on."""
        self.served.rollout = self.served.rollout.with_champion(scorer)

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
        return {"asked": read_request(request, self.served.names, self.served.customers)}

    def predict(self, request):
        return self.served.score(request["asked"]).probabilities

    def postprocess(self, request):
        """What MLRun's own way answers where it tracks the model: the decision and the model behind each probability."""
        manifest = self.served.rollout.champion.scorer.manifest
        request["model_version"] = manifest.version
        request["churns"] = [probability >= manifest.threshold for probability in request["outputs"]]
        return request

    def score_record(self, event):
        with self.parts.begin(event) as unit:
            if unit.replayed:
                return {"replayed": True}
            batch = decode_batch(event.body)
            scored = score_batch(batch, self.served.rollout)
            unit.append(INFERENCE, Record(encode_batch(scored), scored.num_rows, headers={"content-type": ARROW}))
            unit.count("applied", batch.num_rows)
        if len(self.served.customers):
            self.served.customers.heard(batch.column(batch.schema.get_field_index(KEY)).to_pylist())
        return {"scored": batch.num_rows}

    def keep_shadows(self, asked, scored):
        self.shadows.keep(shadow_rows(asked, scored, self.parts.clock()))

    def write_shadows(self, rows):
        with self.parts.begin() as unit:
            told = shadow_batch(rows)
            unit.append(INFERENCE, Record(encode_batch(told), told.num_rows, rows[0][KEY], {"content-type": ARROW}))


def call_later():
    """The event loop's; None where MLRun loads a model outside of it."""
    try:
        return asyncio.get_running_loop().call_later
    except RuntimeError:
        return None


def described(name, file, features):
    """The model as MLRun describes one: its file, and the names and types of what goes in and comes out."""
    inputs = [Feature(name=each, value_type="float") for each in features]
    return mlrun.artifacts.ModelArtifact(
        name, model_file=file, inputs=inputs, outputs=[Feature(name="probability", value_type="float")]
    )
