"""
The code that a sandboxed interpreter executes: this text, followed by a call of `_main`. It is never imported.

It reads the text of [`~trl_archer.sandbox.program.Program.request`] from a descriptor.
"""

import _symtable  # type: ignore[import-not-found]
import _thread
import builtins
import os
import sys
from _sitebuiltins import Quitter


class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next


class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right


_NODES = {"ListNode": ("next",), "TreeNode": ("left", "right")}
_OTHER_NAMES = {"np": "numpy", "pd": "pandas", "re_search": "re.search", "commonprefix": "os.path.commonprefix"}
_MOST_NODES = 10**6
PROVIDED: dict[str, str] = {}  # module -> names, replaced before `_main` is called


def _missing_names(source):
    """The names that a program, or a function in it, looks up in its module, and the module does not define."""
    top = _symtable.symtable(source, "program.py", "exec")
    tables, names = [top], set()
    while tables:
        table = tables.pop()
        tables += table.children
        names |= {
            name
            for name, flags in table.symbols.items()
            if flags >> _symtable.SCOPE_OFF & _symtable.SCOPE_MASK == _symtable.GLOBAL_IMPLICIT
        }
    return {name for name in names if not top.symbols.get(name, 0) & _symtable.DEF_BOUND}


def _provide_names(source, namespace):
    """Defines the names that graders of contests define for programs."""
    places = {name: f"{module}.{name}" for module, names in PROVIDED.items() for name in names.split()}
    places |= _OTHER_NAMES | {"time": "time.time"} | {name: name for name in (*PROVIDED, "os", "numpy")}
    missing = _missing_names(source)
    for name in missing & places.keys():
        module, _, attribute = places[name].rpartition(".")
        try:
            __import__(module or attribute)
            namespace[name] = getattr(sys.modules[module], attribute) if module else sys.modules[attribute]
        except (ImportError, AttributeError):
            continue
    namespace |= {node.__name__: node for node in (ListNode, TreeNode) if node.__name__ in missing}


def _encode(value):
    """A value as JSON that keeps Python's types. `TypeError` if it is not plain data."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": [_encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if type(value).__name__ in _NODES:
        return {type(value).__name__: _flat(value, _NODES[type(value).__name__])}
    if type(value).__module__.partition(".")[0] == "numpy":
        return _encode(value.tolist())
    raise TypeError(f"{type(value).__name__} is not plain data")


def _flat(node, children):
    """The values of a linked list or tree, parents first, and `None` for each missing child."""
    values, todo = [], [node]
    while todo:
        node = todo.pop()
        values.append(None if node is None else [_encode(node.val)])
        todo += [] if node is None else [getattr(node, child) for child in reversed(children)]
        if len(values) > _MOST_NODES:
            raise TypeError("a cycle of nodes is not plain data")
    return values


def _decode(value, namespace):
    """The value that `_encode` has written. Nodes are of the classes in `namespace`."""
    if isinstance(value, list):
        return [_decode(item, namespace) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind in _NODES:
        return _built(iter(content), namespace.get(kind) or globals()[kind], _NODES[kind], namespace)
    if kind == "bytes":
        return content.encode("latin-1")
    items = [_decode(item, namespace) for item in content]
    if kind == "complex":
        return complex(*items)
    return {"tuple": tuple, "set": set, "dict": dict}[kind](items)


def _built(values, kind, children, namespace):
    top = kind()
    todo = [(top, "next")]  # an attribute of a helper node
    while todo:
        parent, name = todo.pop()
        value = next(values)
        node = None if value is None else kind(_decode(value[0], namespace))
        setattr(parent, name, node)
        todo += [] if node is None else [(node, child) for child in reversed(children)]
    return top.next


def _find(namespace, function):
    target = namespace.get("Solution")
    method = getattr(target(), function, None) if isinstance(target, type) else None
    return method or namespace[function]


def _perform(namespace, calls):
    """
    Makes calls in their order and tells how the last one ended. A call is `[target, name, arguments, named arguments]`.
    The target is the number of an earlier call, whose result has a method of that name, or `None` for the module.
    Without arguments, the attribute itself is asked for.
    """
    results: list = []
    for target, name, arguments, named in calls:
        try:
            found = _find(namespace, name) if target is None else getattr(results[target], name)
            if arguments is not None:
                named = {key: _decode(value, namespace) for key, value in named.items()}
                found = found(*_decode(arguments, namespace), **named)
            results.append(found)
            raised = None
        except Exception as error:
            results.append(None)
            raised = error
    if raised is not None:
        print(f"{type(raised).__name__}: {raised}", file=sys.stderr)
        return {"raised": [kind.__name__ for kind in type(raised).__mro__]}
    try:
        return {"value": _encode(found)}
    except TypeError:
        return {"object": callable(found)}


def _call(namespace, function, arguments):
    import json

    arguments = json.loads(arguments)
    value = _perform(namespace, arguments) if function == "*" else _find(namespace, function)(*arguments)
    return json.dumps(value, default=lambda other: other.tolist())  # numpy's numbers and arrays


def _main(started, request, result):
    with open(request, encoding="utf-8", errors="surrogatepass", newline="", closefd=False) as file:
        sizes, text = file.read().split("\n", 1)
    name, end = map(int, sizes.split())
    function, arguments, source = text[:name], text[name:end], text[end:]
    os.ftruncate(result, 0)
    os.lseek(result, 0, os.SEEK_SET)
    os.write(started, b"started")  # any failure from here on is the program's fault
    os.close(started)
    try:
        with open("program.py", "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(source)
    except OSError:  # the disk may be full, and few programs read themselves
        pass
    code = compile(source, "program.py", "exec")
    sys.argv = ["program.py"]
    builtins.exit, builtins.quit = Quitter("exit", ""), Quitter("quit", "")  # missing because of `-S`
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(0)
    _thread.stack_size(8 * 2**20)

    # A separate module. To call a function, the program runs as if imported, so its main guard does not read input
    module = type(sys)("__main__" if end == 0 else "program")
    module.__dict__["__file__"] = "program.py"
    sys.modules[module.__name__] = module
    _provide_names(source, module.__dict__)
    exec(code, module.__dict__)
    if end:
        os.write(result, _call(module.__dict__, function, arguments).encode())
