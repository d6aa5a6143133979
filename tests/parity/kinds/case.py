"""A parity case in a folder: meta.json, case.npz, and the comparison of our numbers with those in it."""

import json
from pathlib import Path

import numpy as np

from minigen import Tensor

# Times the largest entry, where that is above 1. The cases' own pass mark is 1e-7.
FLOAT64, FLOAT64_IN_FLOAT32 = 1e-8, 1e-4


class Case:
    """One folder. `case["out__0"]` is an array, `case.of("p__")` all with that prefix by the rest of their names.

    dtype   float32 gives a float64 case's arrays in float32, so that it runs on kernels, with wider tolerances
    """

    def __init__(self, folder, dtype=np.float64):
        self.folder = Path(folder)
        self.name = self.folder.name
        self.meta = json.loads((self.folder / "meta.json").read_text())
        self.note = self.meta.get("note") or ""
        with np.load(self.folder / "case.npz", allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.dtype, self.narrowed = np.dtype(dtype), False
        if self.dtype != np.float64:
            self.narrowed = any(a.dtype == np.float64 for a in self.arrays.values())
            self.arrays = {k: a.astype(dtype) if a.dtype == np.float64 else a for k, a in self.arrays.items()}

    def __getitem__(self, name):
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays

    def get(self, name):
        return self.arrays.get(name)

    def of(self, prefix):
        return {name[len(prefix) :]: array for name, array in self.arrays.items() if name.startswith(prefix)}

    def numbered(self, prefix):
        """`prefix`0, `prefix`1, ... in order."""
        found = self.of(prefix)
        return [found[str(i)] for i in range(len(found)) if str(i) in found]

    def inputs(self):
        """in__0, in__1, ... as tensors that want a gradient where they are floating-point."""
        return [Tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in self.numbered("in__")]

    def tolerance(self, name):
        """How far from the array `name` ours may be: by its type, and by how far the reference's float32 is off."""
        reference = self.arrays[name]
        if reference.dtype.kind != "f":
            return 0.0
        if reference.dtype == np.float64 or self.narrowed:
            part = FLOAT64_IN_FLOAT32 if self.narrowed else FLOAT64
            return part * max(1.0, float(np.abs(reference).max(initial=0)))
        floor = self.meta.get("f32_vs_f64_floor") or 0.0
        floor = max(floor.values(), default=0.0) if isinstance(floor, dict) else floor
        return max(2e-5, min(2e-4, 50 * floor))

    def compare(self, ours, partly=False):
        """Ours, {"out__0": tensor or array, ...}, beside the case's. None counts as zeros.

        What the case holds and ours lacks is a difference too, unless only a part is compared.
        """
        return Comparison(self, ours, partly)


class Comparison:
    """Differences between our arrays and a case's. `excess` is the worst of them in units of its tolerance."""

    RESULTS = "out__", "gin__", "gp__", "buf_after__"

    def __init__(self, case, ours, partly=False):
        self.case = case
        self.excess, self.lines = 0.0, []
        for name in () if partly else case.arrays:
            if name.startswith(self.RESULTS) and name not in ours:
                self.excess = np.inf
                self.lines.append(f"{name}: not computed; the shape is to be {case[name].shape}")
        for name, array in ours.items():
            self._one(name, array, case[name])

    def _one(self, name, ours, theirs):
        ours = np.zeros_like(theirs) if ours is None else np.asarray(ours.data if isinstance(ours, Tensor) else ours)
        if ours.shape != theirs.shape:
            self.excess = np.inf
            self.lines.append(f"{name}: shape {ours.shape}, expected {theirs.shape}")
            return
        with np.errstate(invalid="ignore"):
            same = (
                (ours == theirs) | (np.isnan(ours) & np.isnan(theirs)) if theirs.dtype.kind == "f" else ours == theirs
            )
            error = np.where(same, 0.0, np.abs(ours.astype(float) - theirs.astype(float)))
        error, allowed = float(error.max(initial=0)), self.case.tolerance(name)
        if not error <= allowed:  # so that a NaN fails
            self.excess = max(self.excess, np.inf if np.isnan(error) or not allowed else error / allowed)
            self.lines.append(f"{name}: off by {error:.3g}, allowed {allowed:.3g}")

    @property
    def fits(self):
        return not self.lines

    @property
    def comparable(self):
        """Whether the shapes agree."""
        return not any("shape" in line for line in self.lines)

    def require(self):
        if self.lines:
            raise AssertionError(f"{self.case.name}: {self.case.note}\n  " + "\n  ".join(self.lines))
