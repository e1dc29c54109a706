"""The same life with callbacks that do not wait."""

import os


def _note(word):
    with open(os.environ["NOTES"], "a") as file:
        file.write(word + "\n")


def init_context(context):
    context.platform.set_drain_callback(lambda: _note("never called: it is replaced"))
    context.platform.set_drain_callback(lambda: _note("drain"))
    context.platform.set_termination_callback(lambda: _note("termination"))


def handler(context, event):
    return "ok"
