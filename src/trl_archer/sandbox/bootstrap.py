"""
The code that a sandboxed interpreter executes: this text, followed by a call of `_main`. It is never imported.

It expects the program in `program.py`. To call a function, it expects the name and the arguments in `call`.
"""

import _thread
import builtins
import os
import sys
from _sitebuiltins import Quitter

# Names that contest solutions use without importing them -> module
_COMMON_NAMES = {
    **dict.fromkeys(
        "Any Callable Deque Dict FrozenSet Iterable Iterator List Optional Set Tuple Union".split(), "typing"
    ),
    **dict.fromkeys("Counter OrderedDict defaultdict deque".split(), "collections"),
    **dict.fromkeys("heapify heappop heappush heappushpop heapreplace nlargest nsmallest".split(), "heapq"),
    **dict.fromkeys("bisect_left bisect_right insort".split(), "bisect"),
    **dict.fromkeys("accumulate chain combinations groupby islice permutations product".split(), "itertools"),
    **dict.fromkeys("cache cmp_to_key lru_cache reduce".split(), "functools"),
    **dict.fromkeys("ceil comb factorial floor gcd inf isqrt lcm log2 sqrt".split(), "math"),
    **dict.fromkeys("bisect collections copy datetime functools heapq itertools json math".split(), ""),
    **dict.fromkeys("operator os random re string sys".split(), ""),
}


def _names(code):
    """Every name that the code, or a function in it, looks up in the module."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from _names(constant)


def _provide_common_names(code, namespace):
    for name in _COMMON_NAMES.keys() & set(_names(code)):
        module = __import__(_COMMON_NAMES[name] or name)
        namespace[name] = getattr(module, name) if _COMMON_NAMES[name] else module


def _call(namespace, function, arguments):
    import json

    target = namespace.get("Solution")
    call = getattr(target(), function, None) if isinstance(target, type) else None
    return json.dumps((call or namespace[function])(*json.loads(arguments)))


def _main(started, result):
    os.write(started, b"started")  # any failure from here on is the program's fault
    os.close(started)
    with open("program.py", encoding="utf-8", errors="surrogatepass") as file:
        code = compile(file.read(), "program.py", "exec")
    function, arguments = None, ""
    if os.path.exists("call"):
        with open("call", encoding="utf-8", errors="surrogatepass") as file:
            function, arguments = file.read().split("\n", 1)
    sys.argv = ["program.py"]
    builtins.exit, builtins.quit = Quitter("exit", ""), Quitter("quit", "")  # missing because of `-S`
    sys.setrecursionlimit(50_000)
    _thread.stack_size(8 * 2**20)

    # A separate module. To call a function, the program runs as if imported, so its main guard does not read input
    module = type(sys)("__main__" if function is None else "program")
    module.__dict__["__file__"] = "program.py"
    sys.modules[module.__name__] = module
    _provide_common_names(code, module.__dict__)
    exec(code, module.__dict__)
    if function is not None:
        os.write(result, _call(module.__dict__, function, arguments).encode())
