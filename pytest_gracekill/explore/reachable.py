"""What the code under test can reach by name: no real lock that nobody has named may be there.

It would block for real, or its part in a deadlock would not be seen: that is an error before
anything is run. What a ``threading.local`` that can be reached so holds is gone when a thread
begins.
"""

from __future__ import annotations

import functools
import sys
import threading
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.named import ALL, OBJECTS
from pytest_gracekill.explore.real_calls import installed
from pytest_gracekill.witness.places import LOCK, RLOCK, Place, places_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: How deep objects are looked into for locks of theirs.
_DEEP = 2
#: A collection of so many things is data.
_DATA = 1000
#: Modules whose own locks are their own business.
_FOREIGN = ("logging", "threading", "queue", "pytest", "_pytest", "psutil", "pytest_gracekill")


def check_reachable(
    work: Sequence[Callable[..., object]], places: Sequence[Place], source: str
) -> list[threading.local]:
    """Look for locks that the code can reach by name, and that were not named.

    Followed are globals, closures, defaults and attributes of objects, and functions of the same
    module. What is reached in another way is seen when it blocks.

    :return: what it can reach that each thread has for itself.
    :raises UsageError: it says which lock, where it is, and how to name it; or which
        ``threading.local`` has values of its own that cannot be made anew.
    """
    known = {id(thing) for place in places for thing in (place.value, place.lock)}
    homes = {(id(place.owner), place.attribute) for place in places}
    looker = _Looker(known, homes, source)
    for function in work:
        looker.look_at_function(function)
    return looker.thread_locals


def check_made(state: object, source: str) -> None:
    """Look for real locks in what was made for an exploration: nobody would ever wait for one.

    :raises UsageError: it says where one is, and how it comes to be simulated.
    """
    _MadeLooker(set(), set(), source).look_at(state)


class _Looker:
    def __init__(self, known: set[int], homes: set[tuple[int, str]], source: str) -> None:
        self._known = known
        self._homes = homes
        self._source = source
        self._seen: set[int] = set()
        self.thread_locals: list[threading.local] = []

    def look_at_function(self, function: object) -> None:
        """Look at what a callable can reach by name."""
        while isinstance(function, functools.partial):
            for argument in (*function.args, *function.keywords.values()):
                self._look_at(argument, "an argument of a partial", _DEEP)
            function = function.func
        if isinstance(function, MethodType):
            self._look_at(function.__self__, f"self of {function.__qualname__}", _DEEP)
            function = function.__func__
        if not isinstance(function, FunctionType):
            call = vars(type(function)).get("__call__")
            if isinstance(call, FunctionType) and id(function) not in self._seen:
                self._look_at(function, type(function).__name__, _DEEP)
                self.look_at_function(call)
            return
        self._look_into(function)

    def _look_into(self, function: FunctionType) -> None:
        if id(function) in self._seen or _is_installed(function.__module__):
            return
        self._seen.add(id(function))
        free = function.__code__.co_freevars
        for name, cell in zip(free, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            self._look_at(value, f"{name} in {function.__qualname__}", _DEEP)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._look_at(value, f"a default of {function.__qualname__}", _DEEP)
        for name in _names(function.__code__):
            if name in function.__globals__:
                place = f"{function.__module__}.{name}"
                there = function.__globals__[name]
                # what a module has bound is replaced there
                self._look_at(there, place, _DEEP, is_home=True)
                if isinstance(there, ModuleType) and not _is_installed(there.__name__):
                    self._look_at_module(there, function.__code__)

    def _look_at_module(self, module: ModuleType, code: CodeType) -> None:
        """What the code may use of a module that it has by name."""
        for name in _names(code):
            if name in vars(module):
                place = f"{module.__name__}.{name}"
                self._look_at(vars(module)[name], place, _DEEP, is_home=True)

    def _look_at(self, value: object, place: str, deep: int, *, is_home: bool = False) -> None:
        """Look at what is in a place; ``is_home``: there a lock that was named is replaced."""
        if self._takes(value, place, is_home=is_home):
            return
        if isinstance(value, FunctionType | MethodType | functools.partial):
            self.look_at_function(value)
            return
        if isinstance(value, type) and not _is_installed(value.__module__):
            self._look_at_class(value, place)
            return
        if deep and not isinstance(value, type | ModuleType) and id(value) not in self._seen:
            self._look_inside(value, place, deep)

    def _takes(self, value: object, place: str, *, is_home: bool) -> bool:
        """Whether it is what is looked for, and no place to look into."""
        if isinstance(value, threading.local):
            self._take_thread_local(value, place)
            return True
        if not isinstance(value, ALL):
            return False
        if id(value) not in self._known:
            raise UsageError(
                f"{place} is a {type(value).__name__} that was made before the exploration:"
                " name it in locks=[(object, 'attribute')], or make it in the setup",
                source=self._source,
            )
        # a condition or an event stays the same object
        if not is_home and not isinstance(value, OBJECTS):
            raise UsageError(
                f"{place} is another name of a lock that is named in locks=: name it there, too",
                source=self._source,
            )
        return True

    def _take_thread_local(self, value: threading.local, place: str) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if type(value).__init__ is not threading.local.__init__:
            raise UsageError(
                f"{place} is a {type(value).__name__}, a threading.local that was made before the"
                " exploration and has an __init__: it cannot be made anew for each thread; make it"
                " in the setup",
                source=self._source,
            )
        self.thread_locals.append(value)

    def _look_inside(self, value: object, place: str, deep: int) -> None:
        if type(value).__module__.partition(".")[0] in (*_FOREIGN, "builtins"):
            if isinstance(value, dict | list | tuple) and len(value) < _DATA:
                self._seen.add(id(value))
                inside = value.items() if isinstance(value, dict) else enumerate(value)
                for key, item in list(inside):
                    self._look_at(item, f"{place}[{key!r}]", deep - 1)
            return
        self._seen.add(id(value))
        for inner in places_in(value):
            is_home = (id(value), inner.attribute) in self._homes
            self._look_at(inner.value, f"{place}.{inner.attribute}", deep - 1, is_home=is_home)
        for kind in type(value).__mro__:
            if not _is_installed(kind.__module__):
                self._look_at_class(kind, place)

    def _look_at_class(self, kind: type, place: str) -> None:
        for name, attribute in list(vars(kind).items()):
            if isinstance(attribute, ALL):
                is_home = (id(kind), name) in self._homes
                self._look_at(attribute, f"{place}.{name}", 0, is_home=is_home)


class _MadeLooker(_Looker):
    """Looks at objects only: what functions can reach is known already."""

    def look_at(self, state: object) -> None:
        self._look_at(state, "the state", _DEEP)

    def look_at_function(self, function: object) -> None:
        """Leave it alone."""

    def _takes(self, value: object, place: str, *, is_home: bool) -> bool:  # noqa: ARG002 - as above
        if isinstance(value, (LOCK, *RLOCK)):
            raise UsageError(
                f"{place} is a {type(value).__name__} that is not simulated: what has made it had"
                " the real one by another name, such as default_factory=threading.Lock; write"
                " default_factory=lambda: threading.Lock()",
                source=self._source,
            )
        # what each thread has for itself is new in each schedule
        return isinstance(value, (*OBJECTS, threading.local))


@functools.cache
def _is_installed(module: str) -> bool:
    """Whether a module is the standard library's, an installed package's, or our own."""
    top = module.partition(".")[0]
    if top in _FOREIGN or top in sys.stdlib_module_names or top == "builtins":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and file.startswith(installed())


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
