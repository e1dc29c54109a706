"""A function that says who it is, and how a test asks it."""

from typing import Any

import requests

from churnstream.local import SupervisorClient

WHO = """
import os
def handler(context, event):
    return {"pid": os.getpid(), "body": event.body, "environment": dict(os.environ)}
"""


def ask(client: SupervisorClient, state: dict[str, Any], path: str = "/", **given: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {client.home.token()}"}
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"http://{state['address']}{path}", headers=headers, timeout=30, **given)
