"""Locks that were made before the exploration: those that are named are simulated in it.

A Lock or RLock is replaced where it is bound, and put back; a Condition, Event, Semaphore, Barrier
or Queue stays the object that it is, and begins each schedule as it was. One that was not named,
but can be reached from the code under test, is an error before anything is run: it would block for
real. What a ``threading.local`` that can be reached so holds is gone when a thread begins.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
from contextlib import ExitStack, contextmanager
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.locks import Lock, RLock
from pytest_gracekill.explore.real_locks import installed
from pytest_gracekill.explore.states import mark, unmark
from pytest_gracekill.witness.bindings import replaced
from pytest_gracekill.witness.places import LOCK, RLOCK, Place, Wanted, places_in, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gracekill.explore.run import Run

_OBJECTS = (
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    threading.Barrier,
    queue.Queue,
)
_ALL = (LOCK, *RLOCK, *_OBJECTS)
#: How deep objects are looked into for locks of theirs.
_DEEP = 2
#: A collection of so many things is data.
_DATA = 1000
#: Modules whose own locks are their own business.
_FOREIGN = ("logging", "threading", "queue", "pytest", "_pytest", "psutil", "pytest_gracekill")


#: What can be simulated.
_SIMULATED = Wanted(
    fits=lambda place: isinstance(place.value, _ALL),
    told="a Lock, RLock, Condition, Event, Semaphore, Barrier or Queue",
    stays=_OBJECTS,
)


def read_named(locks: Sequence[object], source: str) -> list[Place]:
    """The locks that were named.

    :raises UsageError: names the entry, what it is, and what would be right.
    """
    return read(locks, _SIMULATED, source)


class NamedLocks:
    """What was named, as each schedule finds it."""

    def __init__(
        self, places: Sequence[Place], thread_locals: Sequence[threading.local] = ()
    ) -> None:
        self._places = places
        self._thread_locals = thread_locals
        self._locks: dict[int, Lock] = {}

    @contextmanager
    def simulated(self) -> Iterator[None]:
        """Replace them, and put back what was there."""
        with ExitStack() as stack:
            pairs: list[tuple[object, object]] = []
            for place in self._places:
                value = place.value
                if not isinstance(value, _OBJECTS):
                    lock = self._lock_for(value, place.name)
                    stack.callback(setattr, place.owner, place.attribute, value)
                    setattr(place.owner, place.attribute, lock)
                    pairs.append((value, lock))
                    continue
                stack.callback(unmark, value)
                mark(value, place.name)
                if isinstance(value, threading.Condition):
                    lock = self._lock_for(place.lock, f"{place.name}'s lock")
                    _wire(value, lock, stack)
            # what another module has imported by name is the same lock
            stack.enter_context(replaced(pairs, but=("pytest_gracekill",)))
            yield

    def prepare(self, run: Run) -> None:
        """Have their bits in the order in which they were named."""
        run.thread_locals = self._thread_locals
        for lock in self._locks.values():
            lock.join(run)

    def _lock_for(self, real: object, name: str) -> Lock:
        """One simulated lock for each real one, under however many names."""
        if id(real) not in self._locks:
            reentrant = isinstance(real, RLOCK)
            self._locks[id(real)] = RLock(name) if reentrant else Lock(name)
        return self._locks[id(real)]


def _wire(condition: Any, lock: Lock, stack: ExitStack) -> None:
    for name, there in (("_lock", lock), ("acquire", lock.acquire), ("release", lock.release)):
        stack.callback(setattr, condition, name, getattr(condition, name))
        setattr(condition, name, there)


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
                self._look_at(there, place, _DEEP, function.__module__)
                if isinstance(there, ModuleType) and not _is_installed(there.__name__):
                    self._look_at_module(there, function.__code__)

    def _look_at_module(self, module: ModuleType, code: CodeType) -> None:
        """What the code may use of a module that it has by name."""
        for name in _names(code):
            if name in vars(module):
                self._look_at(
                    vars(module)[name], f"{module.__name__}.{name}", _DEEP, module.__name__
                )

    def _look_at(
        self,
        value: object,
        place: str,
        deep: int,
        module: str | None = None,
        home: tuple[int, str] | None = None,
    ) -> None:
        if isinstance(value, _ALL):
            if id(value) in self._known:
                self._check_alias(value, place, module, home)
            else:
                raise UsageError(
                    f"{place} is a {type(value).__name__} that was made before the exploration:"
                    " name it in locks=[(object, 'attribute')], or make it in the setup",
                    source=self._source,
                )
            return
        if isinstance(value, threading.local):
            self._look_at_thread_local(value, place)
            return
        if isinstance(value, FunctionType | MethodType | functools.partial):
            self.look_at_function(value)
            return
        if isinstance(value, type) and not _is_installed(value.__module__):
            self._look_at_class(value, place)
            return
        if deep and not isinstance(value, type | ModuleType) and id(value) not in self._seen:
            self._look_inside(value, place, deep)

    def _look_at_thread_local(self, value: threading.local, place: str) -> None:
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
            there, home = f"{place}.{inner.attribute}", (id(value), inner.attribute)
            self._look_at(inner.value, there, deep - 1, home=home)
        for kind in type(value).__mro__:
            if not _is_installed(kind.__module__):
                self._look_at_class(kind, place)

    def _look_at_class(self, kind: type, place: str) -> None:
        for name, attribute in list(vars(kind).items()):
            if isinstance(attribute, _ALL):
                self._look_at(attribute, f"{place}.{name}", 0, home=(id(kind), name))

    def _check_alias(
        self, value: object, place: str, module: str | None, home: tuple[int, str] | None
    ) -> None:
        """A lock that was named is reached by a name that was not.

        What a module has bound is replaced, too, and a condition or an event stays the same object.
        """
        if isinstance(value, _OBJECTS) or module is not None or home in self._homes:
            return
        raise UsageError(
            f"{place} is another name of a lock that is named in locks=: name it there, too",
            source=self._source,
        )


class _MadeLooker(_Looker):
    """Looks at objects only: what functions can reach is known already."""

    def look_at(self, state: object) -> None:
        self._look_at(state, "the state", _DEEP)

    def look_at_function(self, function: object) -> None:
        """Leave it alone."""

    def _look_at(
        self,
        value: object,
        place: str,
        deep: int,
        module: str | None = None,
        home: tuple[int, str] | None = None,
    ) -> None:
        if isinstance(value, (LOCK, *RLOCK)):
            raise UsageError(
                f"{place} is a {type(value).__name__} that is not simulated: what has made it had"
                " the real one by another name, such as default_factory=threading.Lock; write"
                " default_factory=lambda: threading.Lock()",
                source=self._source,
            )
        if not isinstance(value, _OBJECTS):
            super()._look_at(value, place, deep, module, home)


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
