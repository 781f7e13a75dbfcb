"""By which words of a log a cause is known: a table, and the first row that matches some line names it.

Only what may have ended the child is looked at: errors (level E), and lines without a level, which come from below
llama.cpp's log (C++ exceptions, loaders, older builds). What is said at a lower level, or of memory that it can do
without (pinned buffers), ended nothing. The words are those of b11434: `common/arg.cpp`, `ggml/src/gguf.cpp`, `ggml.c`,
`ggml-alloc.c`, `ggml-backend.cpp`, `ggml-{cuda,vulkan,metal,sycl}`, `src/llama-{mmap,model,model-loader,vocab}.cpp`,
`tools/server/server-{http,context}.cpp`; and those of the dynamic loader, the kernel and the CUDA and ROCm runtimes.
"""

from __future__ import annotations

import re

from msgspec import Struct

from llamarouter.core.causes import Cause

_STAMP = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} (?P<level>[DIWE]) ")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LATELY = 400  # lines: a backtrace may follow the reason
_HARMLESS = re.compile(
    r"pinned memory|async uploads|skipping reorder|failed to mlock|fit params to free", re.IGNORECASE
)


class Row(Struct, frozen=True):
    """`also`: what another line must say for this one to be the cause."""

    cause: Cause
    words: str  # patterns: `re` compiles them at the first failure, not at every start
    also: str | None = None


def _row(cause: Cause, *words: str, also: str | None = None) -> Row:
    return Row(cause, f"(?i:{'|'.join(words)})", also)


# Buffers that lie in the machine's own memory: `CPU`, `CPU_Mapped`, `CPU_REPACK`, `AMX`, `CUDA_Host`, `Vulkan_Host` ...
_HOST_BUFFER = r"(?:CPU\w*|AMX|HBM|\w+_Host)"

_MEMORY = (
    _row(
        Cause.DEVICE_MEMORY,
        r"cudaMalloc failed",
        r"(?:CUDA|ROCm|MUSA) error: out of memory",
        r"CUDA_ERROR_OUT_OF_MEMORY|hipErrorOutOfMemory|cudaErrorMemoryAllocation",
        r"OutOfDeviceMemory|Device memory allocation of size \d+ failed|exceeds device buffer size limit",
        r"failed to allocate Metal buffer|OutOfMemory\)|ggml_metal.*failed to allocate buffer",
        r"can't allocate \d+ Bytes of memory on device",
        rf"(?:failed|unable) to allocate (?!{_HOST_BUFFER} buffer)[A-Z]\w*\d buffer",
    ),
    _row(
        Cause.HOST_MEMORY,
        rf"(?:failed|unable) to allocate {_HOST_BUFFER} buffer",
        r"ggml_backend_cpu_buffer_type_alloc_buffer|ggml_aligned_malloc: insufficient memory",
        r"can't allocate \d+ Bytes of memory on host",
        r"OutOfHostMemory|std::bad_alloc|bad_alloc error|Cannot allocate memory|posix_memalign failed with error 12",
    ),
    _row(
        Cause.OUT_OF_MEMORY,
        r"out of memory|insufficient memory|failed to allocate|unable to allocate|can't allocate",
    ),
)

_LIBRARY = _row(
    Cause.LIBRARY,
    r"error while loading shared libraries|cannot open shared object|symbol lookup error|undefined symbol",
    r"version [`'](?:GLIBC|GLIBCXX|CXXABI)\w*[\d.]+' not found|Library not loaded|image not found",
    r"(?:CUDA|ROCm|MUSA) error: (?:no kernel image|the provided PTX|device kernel image is invalid|.*driver version)",
    r"(?:CUDA|ROCm|MUSA) error: (?:invalid device function|forward compatibility)|hipErrorNoBinaryForGpu",
    r"ErrorIncompatibleDriver",
)

_LOADING = (
    *_MEMORY,
    _LIBRARY,
    _row(Cause.SOCKET, r"couldn't bind HTTP server socket|couldn't start HTTP listener|address already in use"),
    _row(Cause.ENGINE, r"failed to execute|Exec format error|^setpriv: |llamarouter engine: "),
    # Without a driver a build for GPUs goes on with the CPU; it ends where a GPU was asked for.
    _row(
        Cause.LIBRARY,
        r"failed to initialize (?:CUDA|ROCm|MUSA)|no CUDA-capable device|no ROCm-capable device",
        also="invalid device",
    ),
    _row(
        Cause.BAD_OPTION,
        r"^error: (?:invalid argument|unknown argument|unknown value|the argument|the supplied chat template)",
        r"error while handling argument|error: invalid value|expected value for argument|argument has been removed",
        r"error parsing|invalid value for main_gpu|V cache quantization requires flash_attn",
        r"invalid device: |failed to initialize chat template|chat template parsing error",
    ),
    _row(
        Cause.OLD_ENGINE,
        r"unknown model architecture|unsupported model architecture|unknown pre-tokenizer|unknown tokenizer",
        r"only supports up to version|has invalid ggml type|unknown (?:vision |audio )?projector type",
        r"wrong number of tensors",
    ),
    _row(Cause.PERMISSION, r"Permission denied|Operation not permitted"),
    _row(Cause.MISSING_FILE, r"No such file or directory|Does this file exist"),
    _row(
        Cause.BAD_FILE,
        r"invalid magic|failed to open GGUF|gguf_init_from|not within the file bounds|missing tensor",
        r"corrupted|wrong shape|error loading model|failed to load (?:the )?model|invalid split",
        r"failed to load (?:multimodal|draft)|unsupported model|failed to (?:load|apply) (?:lora|control vector)",
    ),
)


def bare(line: str) -> str:
    """A line without colours, time stamp and level."""
    return _STAMP.sub("", _ANSI.sub("", line))


def is_error(line: str) -> bool:
    """Whether llama.cpp says that it is one."""
    return _level_of(line) == "E"


def cause_in(lines: tuple[str, ...], *, loading: bool) -> tuple[Cause, str] | None:
    """The cause that the lines of one spawn tell, and the line that does; None: they tell none.

    What it said while it loaded explains no end that comes after, but for memory, which it may have asked for late.
    """
    return _first(_LOADING, lines) if loading else _first(_MEMORY, lines[-_LATELY:])


def cause_of_abort(lines: tuple[str, ...]) -> tuple[Cause, str] | None:
    """The same for a child that aborted itself, as ggml does where a device fails it."""
    return _first((*_MEMORY, _LIBRARY), lines[-_LATELY:])


def tells_of_memory(words: tuple[str, ...]) -> bool:
    """Whether the last words of a child are of memory that it did not get."""
    return _first(_MEMORY, words) is not None


def _first(rows: tuple[Row, ...], lines: tuple[str, ...]) -> tuple[Cause, str] | None:
    grave = [bare(line) for line in lines if _level_of(line) in (None, "E") and not _HARMLESS.search(line)]
    for row in rows:
        if row.also is None or any(re.search(row.also, text) for text in grave):
            told = next((text for text in grave if re.search(row.words, text)), None)
            if told is not None:
                return row.cause, told
    return None


def _level_of(line: str) -> str | None:
    stamp = _STAMP.match(_ANSI.sub("", line))
    return None if stamp is None else stamp["level"]
