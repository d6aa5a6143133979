"""What a module adds to an error: the name that was probably meant, and the layer in which it happened."""

import difflib


class MissingAttribute(AttributeError):
    """A name that a module does not have. What was meant is looked for only when the message is read."""

    def __init__(self, module, name):
        super().__init__(name)
        self.module, self.missing = module, name

    def __str__(self):
        known = [k for k in dir(self.module) if not k.startswith("_")]
        close = difflib.get_close_matches(self.missing, known, n=1, cutoff=0.6)
        hint = f"\n  did you mean {close[0]!r}?" if close else ""
        return f"{type(self.module).__name__} has no attribute {self.missing!r}{hint}"


def say_where(module, error):
    """Note on an error which layer it came from, by its name in the outermost module."""
    if not hasattr(error, "module"):
        error.module = module
        error.place = f"{type(module).__name__}({module.extra_repr()})"
        error.add_note(f"  in {error.place}")
    else:
        name = next((name for name, part in module.named_modules() if part is error.module), "")
        if name:
            error.__notes__[-1] = f"  in {name}: {error.place}, a part of {type(module).__name__}"
