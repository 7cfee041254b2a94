"""Names that are bound to something else for a while, in every module that has bound the original.

``from time import sleep`` makes a binding of its own: whoever replaces only ``time.sleep`` misses
it. A name in a class, a closure or a default argument is not found.

What the code under test binds meanwhile stays: a patch that it makes, and one that it undoes. A
patch that is made meanwhile and undone after the end binds once more what has stood in: `put_back`
is called after each test for that, and before the next use.
"""

from __future__ import annotations

import sys
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

#: What was bound for a while, with what it stood for, as long as somebody has it still.
_ended: weakref.WeakKeyDictionary[Any, object] = weakref.WeakKeyDictionary()


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
        for _, new in pairs:
            with suppress(TypeError):
                _ended.pop(new, None)
        for _, namespace, name, value in _bindings(news, but):
            namespace[name] = news[id(value)]
            done.append((namespace, name, value))
        yield
    finally:
        for namespace, name, value in reversed(done):
            if namespace.get(name) is news[id(value)]:
                namespace[name] = value
        for original, new in pairs:
            with suppress(TypeError):  # a simulated lock, of which no reference is kept
                _ended[new] = original
        # and where somebody has bound the new one meanwhile, a module that was imported, say
        _restore([*((new, original) for original, new in pairs), *_ended.items()])


def put_back() -> None:
    """Bind the originals again where a patch that was undone has bound what stood for them."""
    _restore(list(_ended.items()))


def _restore(pairs: Sequence[tuple[object, object]]) -> None:
    originals = {id(new): original for new, original in pairs}
    for module_name, namespace, name, value in _bindings(originals, ()):
        if _defines(module_name, namespace, value):
            continue
        original = originals[id(value)]
        for _ in originals:  # it may have stood in itself, for another one
            original = originals.get(id(original), original)
        namespace[name] = original


def _defines(module_name: str, namespace: dict[str, Any], value: object) -> bool:
    """Whether the module is where the function or class is written: its name for it stays."""
    if isinstance(value, type):
        return value.__module__ == module_name
    return getattr(value, "__globals__", None) is namespace


def _bindings(
    originals: Collection[int], but: Collection[str]
) -> list[tuple[str, dict[str, Any], str, object]]:
    if not originals:
        return []
    found = []
    for module_name, module in list(sys.modules.items()):
        namespace = getattr(module, "__dict__", None)
        if isinstance(namespace, dict) and module_name.partition(".")[0] not in but:
            found += [
                (module_name, namespace, name, value)
                for name, value in list(namespace.items())
                if id(value) in originals
            ]
    return found
