"""A function as MLRun hands it to a deployer, of whatever code a test has."""

import base64
from collections.abc import Mapping
from typing import Any


def deployable(
    code: str | bytes,
    name: str = "alpha",
    project: str = "shop",
    kind: str = "remote",
    handler: str = "",
    triggers: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    **build: str,
) -> dict[str, Any]:
    """What deploys ``code``; ``handler`` is ``file:function``, and ``build`` says more of where the code is from."""
    source = base64.b64encode(code.encode() if isinstance(code, str) else code).decode()
    return {
        "kind": kind,
        "metadata": {"name": name, "project": project, "tag": "latest"},
        "spec": {
            "function_handler": handler or f"{name}-nuclio:handler",
            "build": {"functionSourceCode": source, **build},
            "config": {f"spec.triggers.{key}": given for key, given in (triggers or {}).items()},
            "env": [{"name": key, "value": given} for key, given in (env or {}).items()],
        },
    }
