"""A handler and nothing else, under a name of its own."""


def score(context, event):
    return {"scored": event.body}
