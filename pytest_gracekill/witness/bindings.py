"""Names that are bound to something else for a while, in every module that has bound the original.

``from os import kill`` makes a binding of its own: whoever replaces only ``os.kill`` misses it. A
name in a class, a closure or a default argument is not found.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


@contextmanager
def replaced(
    pairs: Sequence[tuple[object, object]], *, but: Collection[str] = ()
) -> Iterator[None]:
    """Bind the second of each pair wherever a module has the first; as before at the end.

    :param but: top-level packages whose own bindings stay as they are.
    """
    news = {id(original): new for original, new in pairs}
    done: list[tuple[dict[str, Any], str, object]] = []
    try:
        for namespace, name, value in _bindings(news, but):
            namespace[name] = news[id(value)]
            done.append((namespace, name, value))
        yield
    finally:
        for namespace, name, value in reversed(done):
            namespace[name] = value
        # and where somebody has bound the new one meanwhile, a module that was imported, say
        originals = {id(new): original for original, new in pairs}
        for namespace, name, value in _bindings(originals, but):
            namespace[name] = originals[id(value)]


def _bindings(
    originals: Collection[int], but: Collection[str]
) -> list[tuple[dict[str, Any], str, object]]:
    found = []
    for module_name, module in list(sys.modules.items()):
        namespace = getattr(module, "__dict__", None)
        if isinstance(namespace, dict) and module_name.partition(".")[0] not in but:
            found += [
                (namespace, name, value)
                for name, value in list(namespace.items())
                if id(value) in originals
            ]
    return found
