"""A module's state: its parameters and persistent buffers by dotted name, and back into a module.

Loading checks everything first and says everything that is wrong at once: what is missing, what is too much (and
which of those look like the same thing renamed), and which shapes differ. Only then is anything written.
"""

import difflib
from typing import NamedTuple

from ..device import device_of, is_array, to_device, xp
from ..errors import CheckpointError, DtypeError, describe
from ..tensor import Parameter, Tensor, wrote

SHOWN = 12  # lines of each kind in a message


class LoadedKeys(NamedTuple):
    """What `load_state_dict` did not find, and what it did not use."""

    missing_keys: list
    unexpected_keys: list


def collect(module, prefix="", keep_vars=False):
    """{dotted name: tensor}; with `keep_vars` the Parameters themselves, not detached tensors over their memory."""
    found = {}
    for path, part in module.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
        for name, tensor in _state_of(part):
            found[f"{path}.{name}" if path else name] = tensor if keep_vars else tensor.detach()
    return found


def _state_of(module):
    """A module's own parameters, then its own persistent buffers, as PyTorch orders them."""
    return module._own(Parameter) + [(name, x) for name, x in module._own_buffers() if module._persistent[name]]


def load(module, given, strict=True, assign=False):
    """Copy `given`, a mapping from dotted names to tensors or arrays, into `module`."""
    if not hasattr(given, "items"):
        raise DtypeError(f"load_state_dict: {describe(given)} is not a mapping\n  give what state_dict() returned")
    given = {name: x.data if isinstance(x, Tensor) else x for name, x in given.items()}
    for name, x in given.items():
        if not is_array(x):
            raise DtypeError(f"load_state_dict: {name} is {describe(x)}, neither a tensor nor an array")
    mine = collect(module, keep_vars=True)
    missing = [name for name in mine if name not in given]
    unexpected = [name for name in given if name not in mine]
    mismatched = [name for name, x in mine.items() if name in given and given[name].shape != x.shape]
    if mismatched or strict and (missing or unexpected):
        wrong = (missing, unexpected) if strict else ([], [])
        raise CheckpointError(_complaint(module, mine, given, *wrong, mismatched))
    for name, tensor in mine.items():
        if name in given:
            write(tensor, given[name], assign)
    return LoadedKeys(missing, unexpected)


def write(tensor, array, assign=False):
    """Copy `array` into `tensor`, which keeps its type and device; or, with `assign`, make it the tensor's own."""
    if assign:
        tensor.data, tensor.buffer = array, None
    else:
        tensor.data[...] = to_device(xp(array).asarray(array), device_of(tensor.data))
        wrote(tensor.data)


def _complaint(module, mine, given, missing, unexpected, mismatched):
    lines = [f"load_state_dict: the state does not fit {type(module).__name__}"]
    prefix = _common_prefix(missing, unexpected)
    renamed = {} if prefix else _renamed(mine, given, missing, unexpected)
    if missing:
        lines += _listed(f"{len(missing)} missing:", [_missing_line(name, mine, renamed) for name in missing])
    left = [name for name in unexpected if name not in renamed.values()]
    if left:
        lines += _listed(f"{len(left)} unexpected:", [f"{name} {given[name].shape}" for name in left])
    if mismatched:
        pairs = [f"{name}: here {mine[name].shape}, given {given[name].shape}" for name in mismatched]
        lines += _listed(f"{len(mismatched)} of another shape:", pairs)
    if prefix and prefix[0] == "given":
        lines.append(f"  every key given begins with {prefix[1]!r}")
        lines.append(f"  write {{k.removeprefix({prefix[1]!r}): v for k, v in state.items()}}")
    elif prefix:
        lines.append(f"  every key wanted begins with {prefix[1]!r}")
        lines.append(f"  write {{{prefix[1]!r} + k: v for k, v in state.items()}}")
    elif missing or unexpected:
        lines.append("  write strict=False to load only what fits")
    return "\n".join(lines)


def _listed(title, items):
    more = [f"    and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"  {title}", *(f"    {item}" for item in items[:SHOWN]), *more]


def _missing_line(name, mine, renamed):
    line = f"{name} {mine[name].shape}"
    return f"{line}   did you mean {renamed[name]!r}?" if name in renamed else line


def _common_prefix(missing, unexpected):
    """("given" or "wanted", prefix) if the two lists are the same but for a prefix: `module.` or `model.`, often."""
    if missing and len(missing) == len(unexpected):
        for side, longer, shorter in (("given", unexpected, missing), ("wanted", missing, unexpected)):
            for name in shorter:
                if longer[0].endswith("." + name):
                    prefix = longer[0][: -len(name)]
                    if {prefix + other for other in shorter} == set(longer):
                        return side, prefix
    return None


def _renamed(mine, given, missing, unexpected):
    """{missing name: unexpected name}: of equal shape, and spelt most alike."""
    pairs = {}
    left = list(unexpected)
    for name in missing[:200]:
        fitting = [other for other in left if given[other].shape == mine[name].shape]
        close = difflib.get_close_matches(name, fitting, n=1, cutoff=0.5)
        if close:
            pairs[name] = close[0]
            left.remove(close[0])
    return pairs
