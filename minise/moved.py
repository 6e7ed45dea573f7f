"""Import modules under their names in an earlier release, with a warning that has the new one."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

LAST_RELEASE = "0.1"  # the last release with the old names
MOVED_BY_PACKAGE = {  # new package: old package, and the modules that moved
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
        "algorithm blocks depthwise direct geometry packing rounding transforms winograd "
        "winograd_dweight",
    ),
    "ops.jit.normalisation": ("ops.jit", "channels gating passes"),
    "ops.jit.vector": ("ops.jit", "layout memory simd tile"),
}
MOVED = {
    f"minise.{old}.{name}": f"minise.{new}.{name}"
    for new, (old, names) in MOVED_BY_PACKAGE.items()
    for name in names.split()
}
MOVED |= {  # modules whose last component differs, too
    "minise.gradcheck.analytic": "minise.gradcheck.slopes.complex_steps",
    "minise.gradcheck.cases": "minise.contract.case",
    "minise.gradcheck.contract": "minise.gradcheck.layers",
    "minise.gradcheck.drawn_case": "minise.gradcheck.strategies.failing_case",
    "minise.gradcheck.explanation": "minise.gradcheck.diagnose",
    "minise.gradcheck.op_strategies": "minise.contract.strategies",
    "minise.ops.jit.claims": "minise.ops.jit.compiler.file_lock",
    "minise.ops.jit.compiler.claims": "minise.ops.jit.compiler.file_lock",
    "minise.ops.jit.convolution.finish": "minise.ops.jit.convolution.epilogue",
    "minise.ops.jit.convolution.pointwise": "minise.ops.jit.convolution.direct",
    "minise.ops.jit.convolution.scatter": "minise.ops.jit.convolution.direct",
    "minise.ops.jit.finish": "minise.ops.jit.convolution.epilogue",
    "minise.ops.jit.pointwise": "minise.ops.jit.convolution.direct",
    "minise.ops.jit.scatter": "minise.ops.jit.convolution.direct",
    "minise.walk.book": "minise.walk.pages",
    "minise.walk.local": "minise.tracing.line_derivative",
    "minise.walk.recorder": "minise.tracing.recorder",
    "minise.walk.slopes": "minise.tracing.slopes",
    "minise.walk.source": "minise.tracing.source",
    "minise.walk.subject": "minise.tracing.subject",
    "minise.walk.whole": "minise.walk.assemble",
}
MOVED["minise.ops.checks"] = "minise.checks or minise.ops.shapes"  # it was split into these two


class MovedFinder:
    """An import finder and loader for old names, which is asked after all other finders.

    It does not inherit from the classes in importlib.abc, because that module takes longer to
    import than all the rest of `import minise`.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old name, with a warning, or None for any other name."""
        if name not in MOVED:
            return None
        end = f"the old name is removed after release {LAST_RELEASE}"
        text = f"{name} has moved: import {MOVED[name]}; {end}"
        warnings.warn(text, FutureWarning, stacklevel=2)
        return ModuleSpec(name, self)  # type: ignore[arg-type]  # has the methods of a loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module with the new name, so that it exists only once."""
        first, *others = [importlib.import_module(new) for new in MOVED[spec.name].split(" or ")]
        module = ModuleType(spec.name) if others else first
        for part in (first, *others) if others else ():
            vars(module).update({k: v for k, v in vars(part).items() if k[:2] != "__"})
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's spec, which the import under the old name replaced."""
        spec = module.__spec__
        assert spec is not None  # the import has just set it
        module.__spec__ = spec.loader_state


sys.meta_path.append(MovedFinder())
