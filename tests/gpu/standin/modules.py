"""The modules that minigen imports of CuPy: cupy, cupy.cuda, cupyx.scipy.special, ..."""

from types import ModuleType, SimpleNamespace

import numpy as np

from . import functions
from .arrays import Device, ndarray, waits

CONSTANTS = "pi e inf nan newaxis euler_gamma"
TYPES = "dtype bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 intp finfo iinfo"
TYPES += " floating integer generic number inexact broadcast_shapes promote_types issubdtype errstate"


class Stream:
    """A stream: what is given to it is done at once."""

    null = None

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.ptr = 0 if null else id(self)

    def use(self):
        return self

    def synchronize(self):
        waits("Stream.synchronize")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def begin_capture(self, mode=None):
        raise NotImplementedError("the stand-in captures no graphs")


class MemoryPool:
    def malloc(self, size):
        raise NotImplementedError("the stand-in gives no bare memory")

    def free_all_blocks(self, stream=None):
        pass

    def used_bytes(self):
        return 0

    def total_bytes(self):
        return 0


def _empty(name, numpy):
    """empty, zeros, ones, eye, ...: NumPy's, for types that a card has."""
    from .arrays import device, host, supported

    def call(*arguments, **named):
        result = numpy(*[host(x) for x in arguments], **named)
        supported(result.dtype)
        return device(result)

    return call


def build():
    """{name: module}, for sys.modules."""
    cupy = ModuleType("cupy")
    cupy.__version__ = functions.NAMES["version"]
    cupy.ndarray = ndarray
    for name in (*CONSTANTS.split(), *TYPES.split()):
        setattr(cupy, name, getattr(np, name))
    for name, function in (*functions.functions.items(), *functions.ufuncs.items()):
        setattr(cupy, name, function)
    for name in ("empty", "zeros", "ones", "eye", "arange", "linspace", "identity", "tri"):
        setattr(
            cupy, name, functions.function(name, functions.NAMES["functions"][name], _empty(name, getattr(np, name)))
        )
    cupy.bool = np.bool_

    linalg = ModuleType("cupy.linalg")
    for name, text in functions.NAMES["linalg"].items():
        if hasattr(np.linalg, name):
            takes = functions.signature(text)

            def call(*arguments, name=name, takes=takes, **named):
                takes.bind(*arguments, **named)
                return functions.linear_algebra(name, *arguments, **named)

            setattr(linalg, name, call)
    linalg.LinAlgError = np.linalg.LinAlgError

    lib, tricks = ModuleType("cupy.lib"), ModuleType("cupy.lib.stride_tricks")
    for name, text in functions.NAMES["stride_tricks"].items():
        setattr(tricks, name, functions.function(name, text, getattr(np.lib.stride_tricks, name)))
    lib.stride_tricks = tricks

    stream = Stream(null=True)
    Stream.null = stream
    cuda = ModuleType("cupy.cuda")
    cuda.runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        memGetInfo=lambda: (1 << 33, 1 << 34),
        getDevice=lambda: 0,
        deviceSynchronize=lambda: waits("deviceSynchronize"),
        driverGetVersion=lambda: 12090,
        runtimeGetVersion=lambda: 12090,
    )
    cuda.Device, cuda.Stream, cuda.MemoryPool = Device, Stream, MemoryPool
    cuda.device = SimpleNamespace(get_device_id=lambda: 0, Device=Device)
    cuda.get_device_id = lambda: 0
    cuda.get_current_stream = lambda device_id=-1: stream
    cuda.memory = SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {}))
    cuda.is_available = lambda: True
    pool = MemoryPool()
    cupy.get_default_memory_pool = lambda: pool
    cupy.linalg, cupy.lib, cupy.cuda = linalg, lib, cuda

    cupyx, scipy, special = ModuleType("cupyx"), ModuleType("cupyx.scipy"), ModuleType("cupyx.scipy.special")
    for name, function in functions.special.items():
        setattr(special, name, function)
    cupyx.scipy, scipy.special = scipy, special
    cupyx.errstate = functions.errstate
    cupyx.scatter_add = lambda a, slices, value: functions.ufuncs["add"].at(a, slices, value)
    modules = [cupy, linalg, lib, tricks, cuda, cupyx, scipy, special]
    return {module.__name__: module for module in modules}
