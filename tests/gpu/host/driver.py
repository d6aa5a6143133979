"""CUDA's runtime and driver, as CuPy calls them, on host memory.

CuPy's compiled modules call one another by C functions. They offer them in capsules (`__pyx_capi__`), and take over
those of others when they are imported. `cupy_backends.cuda.api` can be imported before CuPy is: its capsules are
replaced by ones that hold a function of this file, made by ctypes with the signature that the capsule's name tells.
"""

import ctypes
import re
from ctypes import PYFUNCTYPE, c_char_p, c_float, c_int, c_size_t, c_ssize_t, c_uint, c_ulonglong, c_void_p, py_object

KINDS = {
    "int": c_int,
    "unsigned int": c_uint,
    "size_t": c_size_t,
    "intptr_t": c_ssize_t,
    "uintmax_t": c_ulonglong,
    "float": c_float,
    "PyObject *": py_object,
    "CUdevice": c_int,
    "cudaMemcpyKind": c_int,
}
TO_CARD, TO_HOST = 1, 2  # cudaMemcpyKind
MARGIN = 512  # bytes behind each piece of memory, which is NaN before it is written
ATTRIBUTES = {  # cudaDeviceAttr: a card of compute capability 8.0, as small as the emulator's
    1: 1024,  # threads in a block
    2: 1024,
    5: 2**31 - 1,  # blocks in a grid
    8: 48 * 1024,  # shared memory of a block
    10: 32,  # lanes in a warp
    16: 8,  # multiprocessors
    39: 2048,  # threads on a multiprocessor
    75: 8,
    76: 0,  # compute capability
    95: 1,  # blocks may run together
    97: 64 * 1024,  # shared memory of a block that asks for it
}
PROPERTIES = {  # cudaDeviceProp, what of it CuPy and minigen look at
    "name": b"host memory",
    "major": 8,
    "minor": 0,
    "multiProcessorCount": 8,
    "warpSize": 32,
    "maxThreadsPerBlock": 1024,
    "maxGridSize": (2**31 - 1, 65535, 65535),
    "sharedMemPerBlock": 48 * 1024,
    "totalGlobalMem": 2**34,
}
faults = []  # what a card would have refused, or done otherwise
kept = []  # what capsules point at


def kinds_of(signature):
    """Of "int (size_t, int __pyx_skip_dispatch)": c_int, [c_size_t, c_int], and 1, which leaves out Cython's own."""
    result, given = re.fullmatch(r"(.*?) ?\((.*)\)", signature).groups()
    words = [] if given == "void" else given.split(", ")
    plain = [word.removesuffix(" __pyx_skip_dispatch") for word in words]
    kinds = [c_void_p if word.startswith("struct") else KINDS[word] for word in plain]
    return KINDS[result], kinds, sum("__pyx" not in word for word in words)


def replace(module, name, function):
    """Let `module` offer `function` under this name, to C and to Python."""
    signature = re.search(r'"(.*)"', str(module.__pyx_capi__[name]))[1]
    result, kinds, count = kinds_of(signature)

    def call(*given):
        try:
            return function(*given[:count])
        except BaseException as error:  # which cannot go through C
            faults.append(f"{name}: {type(error).__name__}: {error}")
            return None if result is py_object else 0

    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = py_object, [c_void_p, c_char_p, c_void_p]
    held, label = PYFUNCTYPE(result, *kinds)(call), signature.encode()
    kept.extend((held, label))
    module.__pyx_capi__[name] = capsule(ctypes.cast(held, c_void_p).value, label, None)
    setattr(module, name, function)


# ---- memory ----


libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = c_void_p, [c_size_t], [c_void_p]


def allocate(size):
    """Memory full of NaN: nobody may count on what stood there."""
    address = libc.malloc(max(size, 1) + MARGIN)
    ctypes.memset(address, 0xFF, max(size, 1) + MARGIN)
    return address


def copy(to, start, size):
    if size:
        ctypes.memmove(to, start, size)


def fill(address, value, size):
    if size:
        ctypes.memset(address, value, size)


# ---- streams and graphs ----


class Streams:
    """What streams that are captured have been given, and the graphs made of it: actions in their order."""

    def __init__(self):
        self.captured, self.graphs, self.count = {}, {}, 0

    def do(self, stream, what, action):
        """Now, or, in a captured stream, at each launch of its graph."""
        if stream in self.captured:
            self.captured[stream].append(action)
            return
        if self.captured:
            faults.append(f"{what} on stream {stream} while another is captured")
        action()

    def refuse(self, what):
        """Called by what CUDA refuses while a graph is captured."""
        if self.captured:
            faults.append(f"{what} while a graph is captured")

    def new(self):
        self.count += 1
        return 100 + 8 * self.count

    def begin(self, stream):
        self.captured[stream] = []

    def end(self, stream):
        self.count += 1
        self.graphs[self.count] = self.captured.pop(stream)
        return self.count

    def launch(self, graph, stream):
        def all_of_it():
            for action in self.graphs[graph]:
                action()

        self.do(stream, "a graph", all_of_it)


streams = Streams()


# ---- the functions, by CuPy's names ----


class Runtime:
    """Of `cupy_backends.cuda.api.runtime`."""

    def getDevice(self):
        return 0

    def getDeviceCount(self):
        return 1

    def setDevice(self, device):
        pass

    def _ensure_context(self):
        pass

    def check_status(self, status):
        pass

    def deviceGetAttribute(self, attribute, device):
        return ATTRIBUTES.get(attribute, 1024)

    def getDeviceProperties(self, device):
        return PROPERTIES

    def driverGetVersion(self):
        return 12090

    def runtimeGetVersion(self):
        return 12090

    def malloc(self, size):
        return allocate(size)

    def free(self, address):
        libc.free(address)

    def hostAlloc(self, size, flags):
        return allocate(size)

    def freeHost(self, address):
        libc.free(address)

    def memGetInfo(self):
        return 2**33, 2**34

    def pointerGetMemoryType(self, address):
        return 0

    def memcpy(self, to, start, size, kind):
        streams.refuse("a copy that is waited for")
        copy(to, start, size)

    def memcpyAsync(self, to, start, size, kind, stream):
        if stream in streams.captured and kind in (TO_CARD, TO_HOST):
            faults.append("a copy from or to the host is captured")
        streams.do(stream, "a copy", lambda: copy(to, start, size))

    def memset(self, address, value, size):
        streams.refuse("a filling that is waited for")
        fill(address, value, size)

    def memsetAsync(self, address, value, size, stream):
        streams.do(stream, "a filling", lambda: fill(address, value, size))

    def deviceSynchronize(self):
        streams.refuse("a wait for the card")

    def streamSynchronize(self, stream):
        streams.refuse("a wait for a stream")

    def streamCreate(self):
        return streams.new()

    def streamCreateWithFlags(self, flags):
        return streams.new()

    def streamCreateWithPriority(self, flags, priority):
        return streams.new()

    def streamDestroy(self, stream):
        pass

    def streamQuery(self, stream):
        pass

    def streamGetFlags(self, stream):
        return 1

    def streamWaitEvent(self, stream, event, *flags):
        pass

    def streamIsCapturing(self, stream):
        return int(stream in streams.captured)

    def streamBeginCapture(self, stream, *mode):
        streams.begin(stream)

    def streamEndCapture(self, stream):
        return streams.end(stream)

    def graphInstantiate(self, graph):
        return graph

    def graphUpload(self, graph, stream):
        pass

    def graphLaunch(self, graph, stream):
        streams.launch(graph, stream)

    def graphDestroy(self, graph):
        pass

    def graphExecDestroy(self, graph):
        streams.graphs.pop(graph, None)

    def eventCreate(self):
        return 7

    def eventCreateWithFlags(self, flags):
        return 7

    def eventDestroy(self, event):
        pass

    def eventRecord(self, event, stream):
        pass

    def eventSynchronize(self, event):
        pass

    def eventQuery(self, event):
        pass


class Driver:
    """Of `cupy_backends.cuda.api.driver`. compiler: where kernels come from, put here by compiled.py."""

    compiler = None

    def ctxGetCurrent(self):
        return 1

    def ctxSetCurrent(self, context):
        pass

    def ctxGetDevice(self):
        return 0

    def streamGetCtx(self, stream):
        return 1

    def moduleLoadData(self, image):
        return int(image)

    def moduleUnload(self, module):
        pass

    def moduleGetFunction(self, module, name):
        return self.compiler.function(module, name)

    def funcSetAttribute(self, function, attribute, value):
        pass

    def funcGetAttribute(self, attribute, function):
        return 0

    def occupancyMaxActiveBlocksPerMultiprocessor(self, function, block, shared):
        return 1

    def occupancyMaxPotentialBlockSize(self, function, shared, most):
        return 1, 128

    def launchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, arguments, extra):
        self.compiler.launch(function, (gx, gy, gz), (bx, by, bz), shared, stream, arguments)

    def launchCooperativeKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, arguments):
        self.compiler.launch(function, (gx, gy, gz), (bx, by, bz), shared, stream, arguments, together=True)


own = Driver()


def become_hopper():
    """Be of compute capability 9.0."""
    ATTRIBUTES.update({75: 9, 97: 227 * 1024})
    PROPERTIES["major"] = 9


def replace_all():
    """Let CuPy, which is not yet imported, call these functions."""
    from cupy_backends.cuda.api import driver, runtime

    for module, functions in ((runtime, Runtime()), (driver, own)):
        for name in vars(type(functions)):
            if callable(getattr(functions, name)) and not name.startswith("__"):
                replace(module, name, getattr(functions, name))
