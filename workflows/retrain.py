"""The workflow `retrain`: train a challenger on the archive, and let it take the champion's place if it may.

    project.run("retrain", arguments={"case": "first_day"}, engine="local")

With the engine `local` the steps follow one another in the process that asks; on a cluster each is a job of its own.
"""

import mlrun


def pipeline(
    case: str = "",
    seed: int = 1,
    hours: float = 0,
    trials: int = 0,
    flagged: float = 0,
    mlflow: str = "",
    promote: bool = True,
) -> None:
    """`fit` and then, if ``promote``, `challenge`; the arguments are those of `fit` in functions/training.py.

    A challenger that is no better than the champion by more than noise stays in the registry, and the workflow has succeeded. A
    step that fails ends it.
    """
    project = mlrun.get_current_project()
    params = {"case": case, "seed": seed, "hours": hours, "trials": trials, "flagged": flagged, "mlflow": mlflow}
    params["progress"] = False
    fitted = project.run_function("training", name="retrain-fit", handler="fit", params=params, outputs=["version"])
    if promote:
        told = {"case": case, "version": fitted.outputs["version"]}
        project.run_function("training", name="retrain-challenge", handler="challenge", params=told)
