"""What a run shows while it works: a bar with the loss, the rate and the time left."""

import builtins
import sys
import time


def in_notebook():
    """Whether this runs under IPython or Jupyter."""
    return hasattr(builtins, "__IPYTHON__")


class Screen:
    """The bar of a run of `steps` steps. Without a terminal (a log file, a pipe) there are only the lines."""

    def __init__(self, steps, start, progress):
        from tqdm import tqdm

        self.progress = progress
        self.bar = tqdm(
            total=steps,
            initial=start,
            disable=not progress or not (in_notebook() or sys.stderr.isatty()),
            bar_format="{percentage:3.0f}%|{bar:24}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            dynamic_ncols=True,
        )
        self.since, self.samples, self.steps, self.sums = time.perf_counter(), 0, 0, {}

    def step(self, numbers, samples):
        """One more step is done. The means of `numbers` are shown, and how many `samples` a second go by."""
        if self.bar.disable:
            return
        self.samples += samples or 0
        self.steps += 1
        for name, x in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + x
        now = time.perf_counter()
        if now - self.since > 0.2:
            shown = [f"{name} {x / self.steps:.4g}" for name, x in self.sums.items()]
            if self.samples:
                shown.append(f"{self.samples / (now - self.since):,.0f} samples/s")
            self.bar.set_postfix_str(", ".join(shown), refresh=False)
            self.since, self.samples, self.steps, self.sums = now, 0, 0, {}
        self.bar.update()

    def line(self, text):
        """A line that stays, above the bar."""
        if self.progress:
            self.bar.write(text, file=sys.stderr)

    def close(self):
        self.bar.close()
