"""The one reader of foreign pickles. A pickle is a program; this reader runs only those steps of it that are data.

A name in a pickle (`numpy.ndarray`, `os.system`) is never imported: it is looked up in `rebuild`'s lists, which hold
our own functions, and stays a frozen `Global` that nothing can call, change or look into. What is not listed is refused
by its name. Sizes are checked against the bytes of the file, so a small file cannot ask for much memory.
"""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from drig.errors import DrigError
from drig.foreign import rebuild
from drig.foreign.rebuild import Global
from drig.foreign.source import Source, intact, open_source

DEEPEST = 64
"""Containers within containers. State dicts and head models have four or five."""
MOST_STEPS = 1_000_000
"""Opcodes of one pickle. The released files take tens of thousands; each may cost some 100 bytes of memory."""
MEMORY = 4
"""Bytes that arrays may take in all, as a multiple of the pickle's: Python 2's are decoded, encoded and copied."""
_KEYS = (str, int, bytes, float, type(None))  # the hash of a nested tuple recurses in C and could end the process


def read_pickle(path: Path) -> Any:
    """What a pickle file holds: containers, numbers, text, NumPy arrays, tensors, `SparseMatrix`, `ChumpyArray`.

    Raises DrigError for a file that is missing or damaged, or that asks for anything but data.
    """
    with open_source(path) as source:
        return unpickle(source)


def unpickle(
    source: Source,
    *,
    persistent: Callable[[Any], Any] | None = None,
    objects: bool = False,
    nested: bool = False,
) -> Any:
    """The next pickle of a source, errors as for `read_pickle`.

    persistent: gives the objects that the pickle names by persistent ids; None = it may not.
    objects: it is the content of an .npy that says so: an array with one Python object is allowed.
    nested: it lies inside another pickle, and may not hold a further one.
    """
    with intact(source.name):
        value = Unpickler(source, persistent, objects, nested).load()
        _check_depth(value, source.name)
        return value


def _check_depth(value: object, name: str) -> None:
    level, seen = [value], {id(value)}
    for _ in range(DEEPEST):
        inside = {id(item): item for holder in level for item in _containers_in(holder)}
        level = [item for key, item in inside.items() if key not in seen]
        if not level:
            return
        seen.update(inside)
    raise DrigError(f"{name} nests its content more than {DEEPEST} deep: refused. Get the file from its makers.")


def _containers_in(holder: object) -> list[object]:
    items = holder.values() if isinstance(holder, dict) else holder if isinstance(holder, (list, tuple)) else ()
    return [item for item in items if isinstance(item, (dict, list, tuple))]


class _Steps:
    """The opcodes of one pickle: an unknown one is refused, and so are too many."""

    def __init__(self, table: Mapping[int, Callable[..., None]], refuse: Callable[[str], NoReturn]) -> None:
        self._table = table
        self._refuse = refuse
        self._left = MOST_STEPS

    def __getitem__(self, code: int) -> Callable[..., None]:
        self._left -= 1
        if self._left < 0:
            self._refuse(f"more than {MOST_STEPS:,} steps")
        step = self._table.get(code)
        if step is None:
            self._refuse(f"opcode 0x{code:02x}")
        return step


class Unpickler(pickle._Unpickler):
    """The pure-Python unpickler, restricted.

    Not the C one: it allocates its memo as long as the largest index that a file names, and its opcodes cannot be
    overridden.
    """

    # Of the base class, which is not typed.
    stack: list[Any]
    append: Callable[[Any], None]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, source: Source, persistent: Callable[[Any], Any] | None, objects: bool, nested: bool) -> None:
        super().__init__(source, encoding="latin1")
        self.source = source
        self.objects = objects
        self.nested = nested
        self._persistent = persistent
        self._memory = MEMORY * source.size + (1 << 16)
        self.dispatch = _Steps(_STEPS, self.refuse)  # type: ignore[misc, assignment]

    def refuse(self, what: str) -> NoReturn:
        """Raise the refusal of something that is no data."""
        shown = what if what.isprintable() and len(what) < 200 else ascii(what[:200])
        raise DrigError(
            f"{self.source.name} asks for {shown}, which is not data: refused, and nothing of it was run. "
            "Get the file from its makers."
        )

    def take(self, count: int) -> None:
        """Account for so many bytes that are about to be allocated."""
        self._memory -= count
        if self._memory < 0:
            self.refuse(f"arrays of more than {MEMORY} times the file's bytes")

    def find_class(self, module: str, name: str) -> Global:
        found = rebuild.lookup(module, name)
        if found is None:
            self.refuse(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            self.refuse("an object outside the file (a persistent id)")
        return self._persistent(pid)

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(self.call(rebuild.CALLS, function, arguments))

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(self.call(rebuild.KINDS, kind, arguments))

    def call(self, functions: Mapping[Global, Callable[..., Any]], function: object, arguments: object) -> Any:
        """One of our functions in place of the one that the pickle names."""
        if not isinstance(function, Global):
            self.refuse(f"a call of {type(function).__name__}")
        if function not in functions:
            self.refuse(f"a call of {function}")
        if type(arguments) is not tuple:
            raise TypeError(f"arguments of {function} that are no tuple")
        return functions[function](self, *arguments)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        build = rebuild.BUILDS.get(type(target))
        if build is None:
            self.refuse(f"a change of {target if isinstance(target, Global) else type(target).__name__}")
        build(self, target, state)

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("latin1") for _ in range(2))
        self.refuse(f"{module}.{name}")

    def load_extension(self) -> None:
        self.refuse("a function by its number (an extension code)")

    def load_append(self) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._list().extend(items)

    def load_empty_set(self) -> None:
        self.append([])  # of the sets in these files nothing is used, and lists need no hashes

    def _list(self) -> list[Any]:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError(f"items for a {type(target).__name__}")
        return target

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.fill(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.fill(self.stack[-1], items)

    def fill(self, target: object, items: list[Any]) -> None:
        """Put key, value, key, value, ... into a dict."""
        if type(target) is not dict:
            raise TypeError(f"entries for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise TypeError(f"a {type(key).__name__} as a key")
            target[key] = value


_UNUSED = (
    pickle.OBJ,
    pickle.NEWOBJ_EX,
    pickle.FROZENSET,
    pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
)
_OWN = {
    pickle.REDUCE: Unpickler.load_reduce,
    pickle.NEWOBJ: Unpickler.load_newobj,
    pickle.BUILD: Unpickler.load_build,
    pickle.INST: Unpickler.load_inst,
    pickle.EXT1: Unpickler.load_extension,
    pickle.EXT2: Unpickler.load_extension,
    pickle.EXT4: Unpickler.load_extension,
    pickle.APPEND: Unpickler.load_append,
    pickle.APPENDS: Unpickler.load_appends,
    pickle.EMPTY_SET: Unpickler.load_empty_set,
    pickle.ADDITEMS: Unpickler.load_appends,
    pickle.SETITEM: Unpickler.load_setitem,
    pickle.SETITEMS: Unpickler.load_setitems,
    pickle.DICT: Unpickler.load_dict,
}
_STEPS: Mapping[int, Callable[..., None]] = MappingProxyType(
    {code: step for code, step in pickle._Unpickler.dispatch.items() if bytes([code]) not in _UNUSED}
    | {opcode[0]: step for opcode, step in _OWN.items()}
)
