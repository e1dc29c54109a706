"""What one machine does not do for MLRun's client, and what to do instead, call by call."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from mlrun.db.base import RunDBInterface
from mlrun.db.httpdb import HTTPRunDB

from churnstream.errors import NeedsCluster

Database = TypeVar("Database", bound=type)

_SUBJECTS: Mapping[str, str] = {
    "pass local=True to run the job in this process": "submit_job",
    'pass engine="local" to run the workflow in this process': (
        "submit_workflow submit_pipeline list_pipelines get_pipeline retry_pipeline terminate_pipeline get_workflow_id "
        "load_project"
    ),
    "no image is built on one machine; install what the function needs here": "remote_builder",
    "no image is built on one machine; run the function with local=True": "get_builder_status",
    "a local run is over when its call returns, and an interrupt ends it": "abort_run set_run_retrying_status",
    "give notifications= to the run, which sends them itself": (
        "push_run_notifications store_run_notifications set_run_notifications push_pipeline_notifications"
    ),
    "give the function a cron trigger, or let the machine's own cron start the run": (
        "create_schedule get_schedule list_schedules update_schedule delete_schedule invoke_schedule set_schedule_notifications"
    ),
    "put the secret into the environment, where mlrun.get_secret_or_env finds it": (
        "create_project_secrets list_project_secrets list_project_secret_keys delete_project_secrets"
    ),
    "there is nobody to sign in to; the home's own tokens are printed by `churnstream token`": (
        "store_secret_token store_secret_tokens get_secret_token list_secret_tokens delete_secret_token delete_secret_tokens"
    ),
    "register_temporary_client_datastore_profile keeps a profile in this process, and no password on the disk": (
        "store_datastore_profile get_datastore_profile list_datastore_profiles delete_datastore_profile"
    ),
    "the predictions are in the inference stream, from where they can be read": (
        "create_model_endpoint get_model_endpoint list_model_endpoints patch_model_endpoint delete_model_endpoint "
        "get_model_endpoint_monitoring_metrics get_metrics_by_multiple_endpoints get_drift_over_time "
        "enable_model_monitoring disable_model_monitoring update_model_monitoring_controller set_model_monitoring_credentials "
        "get_model_monitoring_url delete_model_monitoring_function delete_model_monitoring_metrics "
        "get_monitoring_function_summary get_monitoring_function_summaries"
    ),
    "let Prometheus watch what the functions say at /-/metrics": (
        "store_alert_config get_alert_config list_alerts_configs delete_alert_config reset_alert_config "
        "store_alert_notifications get_alert_template list_alert_templates get_alert_activation list_alert_activations "
        "paginated_list_alert_activations "
        "update_alert_activation generate_event refresh_smtp_configuration"
    ),
    "call the function at its own address": "store_api_gateway get_api_gateway list_api_gateways delete_api_gateway",
    "give the function as a file or a function.yaml instead of a hub:// address": (
        "create_hub_source store_hub_source get_hub_source list_hub_sources delete_hub_source get_hub_catalog get_hub_item "
        "get_hub_asset"
    ),
    "`churnstream status` shows what runs here": (
        "list_runtime_resources delete_runtime_resources start_function function_status"
    ),
    "every call here is over when it returns": (
        "get_background_task list_project_background_tasks wait_for_background_task_to_reach_terminal_state"
    ),
    "list_feature_sets() shows them in their sets": "list_features_v2 list_entities_v2",
    "list_runs(), list_functions() and list_artifacts() show what there is": "get_project_summary",
    "there is no server that would answer": (
        "api_call paginated_api_call process_paginated_responses get_base_api_url get_api_path_prefix trigger_migrations "
        "warn_on_s3_and_ecr_permissions_conflict"
    ),
}

INSTEAD: Mapping[str, str] = {call: instead for instead, calls in _SUBJECTS.items() for call in calls.split()}
"""Call -> what to do instead."""


def calls() -> list[str]:
    """Every call of MLRun's client, by name."""
    found = (vars(known).items() for known in (HTTPRunDB, RunDBInterface))
    return sorted({name for each in found for name, member in each if callable(member) and not name.startswith("_")})


def refuse_the_rest(database: Database) -> Database:
    """Give every call of MLRun's client that the class lacks a refusal that names the call."""
    for name in calls():
        ours = next((vars(each)[name] for each in database.__mro__ if name in vars(each)), None)
        if ours is None or ours is vars(RunDBInterface).get(name):
            setattr(database, name, _refusal(name))
    abc.update_abstractmethods(database)
    return database


def is_refused(database: type, call: str) -> bool:
    """True when the class answers this call with NeedsCluster only."""
    return bool(getattr(getattr(database, call), "refuses", False))


def _refusal(call: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
        raise NeedsCluster(call, INSTEAD.get(call))

    refuse.__name__ = call
    refuse.__doc__ = "Raises NeedsCluster: one machine has nothing that could serve it."
    refuse.refuses = True  # type: ignore[attr-defined]
    return refuse
