"""What is wrong with a body of the API, in words: which field, and what it may be."""

import difflib
import types
from collections.abc import Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["MAX_PROBLEMS", "told"]

#: Problems of a body that are told: of thousands nobody reads more, and each is compared with all
#: names that there are.
MAX_PROBLEMS: Final = 20
MAX_NAME_CHARS: Final = 100
MAX_CHARS: Final = 2000


def told(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problems, each with its place: ``results.3.finished_at: …; …``."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    problems = "; ".join(
        f"{'.'.join(map(str, item['loc']))[:MAX_NAME_CHARS] or 'body'}: {_said(item, model)}"
        for item in found[:MAX_PROBLEMS]
    )
    return problems[:MAX_CHARS]


def _said(item: Any, model: type[BaseModel]) -> str:
    """What is wrong with a field; of one that there is not, which may have been meant."""
    if item["type"] != "extra_forbidden":
        wanted = _at(model, item["loc"])[1]
        return f"{item['msg']}; wanted is {wanted}" if wanted else str(item["msg"])
    *above, name = item["loc"]
    around = _at(model, above)[0]
    if not _is_model(around):
        return "no such field"
    known = [field.alias or own for own, field in around.model_fields.items()]
    near = difflib.get_close_matches(str(name)[:MAX_NAME_CHARS], known, 1)
    if near:
        return f"there is no such field: did you mean {near[0]}?"
    return f"there is no such field: there are {', '.join(known)}"


def _at(model: type[BaseModel], way: Sequence[int | str]) -> tuple[Any, str]:
    """What stands at a place of a body, and how the last field on the way to it is described."""
    here: Any = model
    described = ""
    for step in way:
        if _is_model(here):
            named = {field.alias or own: field for own, field in here.model_fields.items()}
            if step not in named:
                return None, described
            described = named[str(step)].description or ""
            here = _plain(named[str(step)].annotation)
        else:
            # of a list, or of an object with any names
            inner = get_args(here)
            here = _plain(inner[-1]) if inner and get_origin(here) in (list, dict) else None
    return here, described


def _plain(annotation: Any) -> Any:
    """A type without what is said of it; of one that may be left out, the other."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            one = [each for each in get_args(annotation) if each is not type(None)]
            if len(one) > 1:
                return None
            annotation = one[0]
        else:
            return annotation


def _is_model(what: Any) -> bool:
    return isinstance(what, type) and issubclass(what, BaseModel)
