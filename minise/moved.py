"""Modules under names that they had in an earlier release: they work, and tell the new one."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

LAST = "0.1"  # the release that still knows them
ROOMS = {  # new room: old room, and the modules that moved
    "contract": ("gradcheck", "bounds conform rules"),
    "gradcheck.slopes": ("gradcheck", "arrays complex_steps evidence pair pair_slopes rounding"),
    "gradcheck.strategies": ("gradcheck", "drawing reproduce"),
    "grading": (
        "gradcheck",
        "answer blame compare exercise failing found inplace judge lines mend settle truth",
    ),
    "tracing": ("gradcheck", "instrument"),
    "ops.jit.compiler": ("ops.jit", "compile"),
    "ops.jit.convolution": (
        "ops.jit",
        "algorithm blocks depthwise direct geometry packing pointwise rounding scatter transforms "
        "winograd winograd_dweight",
    ),
    "ops.jit.normalisation": ("ops.jit", "channels gating passes"),
    "ops.jit.vector": ("ops.jit", "layout memory simd tile"),
}
MOVED = {
    f"minise.{old}.{name}": f"minise.{new}.{name}"
    for new, (old, names) in ROOMS.items()
    for name in names.split()
}
MOVED |= {  # under another name, too
    "minise.gradcheck.analytic": "minise.gradcheck.slopes.complex_steps",
    "minise.gradcheck.cases": "minise.contract.case",
    "minise.gradcheck.contract": "minise.gradcheck.layers",
    "minise.gradcheck.drawn_case": "minise.gradcheck.strategies.failing_case",
    "minise.gradcheck.explanation": "minise.gradcheck.diagnose",
    "minise.gradcheck.op_strategies": "minise.contract.strategies",
    "minise.ops.jit.claims": "minise.ops.jit.compiler.file_lock",
    "minise.ops.jit.compiler.claims": "minise.ops.jit.compiler.file_lock",
    "minise.ops.jit.convolution.finish": "minise.ops.jit.convolution.epilogue",
    "minise.ops.jit.finish": "minise.ops.jit.convolution.epilogue",
    "minise.walk.book": "minise.walk.pages",
    "minise.walk.local": "minise.tracing.line_derivative",
    "minise.walk.recorder": "minise.tracing.recorder",
    "minise.walk.slopes": "minise.tracing.slopes",
    "minise.walk.source": "minise.tracing.source",
    "minise.walk.subject": "minise.tracing.subject",
    "minise.walk.whole": "minise.walk.assemble",
}
MOVED["minise.ops.checks"] = "minise.checks or minise.ops.shapes"  # which have its parts


class Moved:
    """Finds and loads a module by its old name, once all others have not found it.

    It is a finder and a loader by its methods: importlib.abc, which has classes of both, takes
    longer to import than all the rest of `import minise`.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of an old name is, with a warning, or None."""
        if name not in MOVED:
            return None
        text = f"{name} has moved: import {MOVED[name]}; the old name ends after release {LAST}"
        warnings.warn(text, FutureWarning, stacklevel=2)
        return ModuleSpec(name, self)  # type: ignore[arg-type]  # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module itself, so that there is one of it."""
        first, *others = [importlib.import_module(new) for new in MOVED[spec.name].split(" or ")]
        module = ModuleType(spec.name) if others else first
        for part in (first, *others) if others else ():
            vars(module).update({k: v for k, v in vars(part).items() if k[:2] != "__"})
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Put back what the import under the old name wrote over."""
        spec = module.__spec__
        assert spec is not None  # the import has just set it
        module.__spec__ = spec.loader_state


sys.meta_path.append(Moved())
