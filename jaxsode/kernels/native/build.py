"""From words to machine code that XLA can call: emitted, compiled, kept in a folder for the next process."""

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from jaxsode.kernels import toom_cook
from jaxsode.kernels.native import calls, cholesky, direct, distances, moments, product, winograd
from jaxsode.kernels.native.target import Target

_CALLS = {
    "direct": (partial(direct.emit_direct, shortcut=False), direct.NUMBERS),
    "direct_shortcut": (partial(direct.emit_direct, shortcut=True), direct.NUMBERS),
    "distances": (distances.emit_distances, distances.NUMBERS),
    "moments": (moments.emit_moments, moments.NUMBERS),
    "inverse_cholesky": (cholesky.emit_inverse_cholesky, cholesky.NUMBERS),
    "pooled": (direct.emit_pooled, direct.NUMBERS),
    "winograd": (partial(winograd.emit_winograd, shortcut=False), winograd.NUMBERS),
    "winograd_shortcut": (partial(winograd.emit_winograd, shortcut=True), winograd.NUMBERS),
}
"""Of each function that XLA can call: what emits its task, and the numbers that are its first argument."""
_engines: list[Any] = []
_HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_SOURCES = (*sorted(Path(__file__).parent.glob("*.py")), Path(toom_cook.__file__))


class Code:
    """Machine code for a processor, registered with XLA; lives as long as the process."""

    def __init__(self, target: Target, folder: Path | None):
        """Compiles, or reads what was compiled.

        Args:
            target: the processor, which must be able to run it.
            folder: where compiled code is kept; None keeps none.
        """
        self.target = target
        machine = machine_for(target)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(compiled(target, machine, folder)))
        self._engine.finalize_object()
        _engines.append(self._engine)  # what XLA has been told of must stay, whatever comes of the rest
        for name in _CALLS:
            handler = _HANDLER(self._engine.get_function_address(name))
            jax.ffi.register_ffi_target(self.called(name), jax.ffi.pycapsule(handler), platform="cpu")

    def called(self, name: str) -> str:
        """What XLA calls one of the functions."""
        return f"jaxsode_{name}_{self.target.lanes}"

    def order(self, name: str) -> Sequence[str]:
        """Of the numbers of a call."""
        return _CALLS[name][1]


def machine_for(target: Target) -> llvm.TargetMachine:
    """LLVM's compiler for it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    here = llvm.Target.from_default_triple()
    return here.create_target_machine(cpu=target.name, features=target.features, opt=2)


def compiled(target: Target, machine: llvm.TargetMachine, folder: Path | None) -> bytes:
    """An object file of all functions: what a folder has of it, or made anew and kept there.

    Args:
        target, machine: that it is for.
        folder: None keeps nothing; neither does one that can't be written.
    """
    path = None if folder is None else folder / f"kernels-{_fingerprint(target)}.o"
    code = _read(path)
    if code is None:
        code = machine.emit_object(_optimised(target, machine))
        if path is not None:
            _keep(code, path)
    return code


def _optimised(target: Target, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    module = ir.Module()
    products = product.emit_products(module, target)
    for name, (emit, _) in _CALLS.items():
        task = emit(module, target, products)
        calls.emit_call(module, name, task)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    # Its loops are written as they shall be: what could still be done to them takes more time than it saves.
    options: Any = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return parsed


def _fingerprint(target: Target) -> str:
    """Of all that the code comes from."""
    parts = [llvmlite.__version__.encode(), repr(target).encode()]
    parts += [path.read_bytes() for path in _SOURCES]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _read(path: Path | None) -> bytes | None:
    """What was kept, if its end says that it is whole."""
    if path is None:
        return None
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    code, digest = kept[:-32], kept[-32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(code: bytes, path: Path) -> None:
    """Under its name only when it is whole; a folder that can't be written keeps nothing."""
    with suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        made.write_bytes(code + hashlib.sha256(code).digest())
        os.replace(made, path)
