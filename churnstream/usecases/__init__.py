"""Use cases: everything that is particular to one business, one module each.

``load("first_day")`` returns the ``CASE`` of ``churnstream/usecases/first_day.py``. A name with a dot is imported as it
stands (``load("acme.churn")``), so that a case may live outside this package.
"""

from importlib import import_module
from pkgutil import iter_modules

from churnstream.errors import InvalidDefinition, UnknownCase
from churnstream.usecases.case import UseCase


def names() -> tuple[str, ...]:
    """The cases that come with the package, sorted."""
    return tuple(sorted(each.name for each in iter_modules(__path__) if each.name != "case"))


def load(name: str) -> UseCase:
    """The case ``name``; raises UnknownCase, or InvalidDefinition when its module has no ``CASE``."""
    module_name = name if "." in name else f"{__name__}.{name}"
    try:
        if not all(part.isidentifier() for part in module_name.split(".")):
            raise ModuleNotFoundError(name=module_name)
        module = import_module(module_name)
    except ModuleNotFoundError as cause:
        if cause.name is not None and not (module_name == cause.name or module_name.startswith(f"{cause.name}.")):
            raise  # the case is there, but something it imports is not
        raise UnknownCase(f"there is no use case {name!r}; choose one of {', '.join(names())}, or a module path") from cause
    case = getattr(module, "CASE", None)
    if not isinstance(case, UseCase):
        raise InvalidDefinition(f"the use case module {module_name} has no CASE = UseCase(...)")
    return case
