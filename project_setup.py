"""Turns the topology into MLRun functions with their graphs and triggers.

MLRun calls ``setup`` whenever the project is loaded or created with this folder as its context: project.yaml names the functions
by path only, and a function stored by path forgets its graph and triggers. The project's ``case`` parameter chooses the business.
"""

import os
from pathlib import Path
from typing import Any

from churnstream import topology
from churnstream.settings import DEFAULT_CASE
from churnstream.triggers import triggers

HERE = Path(__file__).parent
HANDLERS = {"event-generator": "generate", "enrichment-table": "build", "training": "fit"}


def setup(project: Any) -> Any:
    """Give ``project`` every function of the topology, ready to deploy or run; returns the project."""
    case = project.get_param("case") or os.environ.get("CHURNSTREAM_CASE") or DEFAULT_CASE
    os.environ["CHURNSTREAM_CASE"] = case  # the kernel that set the project up reads the same streams as its functions
    image = project.get_param("image") or "mlrun/mlrun"
    for each in topology.FUNCTIONS:
        handler = HANDLERS.get(each.name, "handler")
        function = project.set_function(str(HERE / each.file), name=each.name, kind=each.kind, image=image, handler=handler)
        if each.kind == "job":
            continue
        function.set_env("CHURNSTREAM_CASE", case)
        for name, trigger in triggers(each.name).items():
            function.add_trigger(name, trigger)
    build_features_graph(project.get_function("stream-to-features"))
    build_serving_graph(project.get_function("serving"), case)
    return project


def build_features_graph(function: Any) -> Any:
    """decode a batch -> update the features -> deliver, all or nothing; whatever fails breaks the record's promise."""
    function.spec.function_handler = "stream-to-features-nuclio:apply_record"
    graph = function.set_topology("flow", engine="async")
    (
        graph.to("churnstream.graph.steps.DecodeBatch", name="decode")
        .to("churnstream.graph.steps.UpdateFeatures", name="update-features")
        .to("churnstream.graph.steps.DeliverFeatures", name="deliver")
    )
    graph.error_handler(name="fail", class_name="churnstream.graph.steps.Fail", full_event=True)
    return graph


def build_serving_graph(function: Any, case: str, model_path: str | None = None, **told: Any) -> None:
    """A router with one model; ``model_path`` is a model artifact, a folder, by default the one that comes with the case, or
    ``champion``, the registry's. ``told`` is what else the model takes, such as ``candidates``."""
    function.spec.function_handler = "serving-nuclio:answer"
    function.set_topology("router", class_name="ChurnRouter")
    shipped = HERE / "assets" / "model" / case
    if model_path is None and shipped.is_dir():
        model_path = str(shipped)
    if model_path is not None:
        function.add_model("churn", class_name="ChurnModel", model_path=model_path, **told)
