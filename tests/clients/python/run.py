"""Runs a command that is a component, in wasmtime: run.py FILE [ARGUMENT...]"""

import sys

from wasmtime import Engine, Store, WasiConfig
from wasmtime.component import Component, Linker

RUN = "wasi:cli/run@0.2."
MOST_PATCHES = 40


def main() -> int:
    file, *arguments = sys.argv[1:]
    engine = Engine()
    store = Store(engine)
    wasi = WasiConfig()
    wasi.argv = [file, *arguments]
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    linker = Linker(engine)
    linker.add_wasip2()
    instance = linker.instantiate(store, Component.from_file(engine, file))
    names = (f"{RUN}{patch}" for patch in range(MOST_PATCHES))
    found = (instance.get_export_index(store, name) for name in names)
    interface = next(index for index in found if index is not None)
    run = instance.get_func(store, instance.get_export_index(store, "run", interface))
    result = run(store)
    return 0 if getattr(result, "tag", "ok") == "ok" else 1


sys.exit(main())
