"""Which words of a log name which cause: lines of llama.cpp b11434 as it prints them, its backends, loaders."""

from __future__ import annotations

import pytest

from llamarouter.core.causes import Cause
from llamarouter.core.log_words import bare, cause_in, cause_of_abort, is_error

# What follows every failed load, and explains none.
END = (
    "0.00.004.533 E llama_model_load_from_file_impl: failed to load model",
    "0.00.004.550 E common_fit_params: encountered an error while trying to fit params to free device memory: failed "
    "to load model",
    "0.00.004.565 E cmn  common_init_: failed to load model '/srv/x.gguf'",
    "0.00.004.567 E srv    load_model: failed to load model, '/srv/x.gguf'",
    "0.00.004.569 I srv    operator(): operator(): cleaning up before exit...",
    "0.00.004.996 E srv  llama_server: exiting due to model loading error",
)
ABORT = (
    "/src/ggml/src/ggml-cuda/ggml-cuda.cu:109: CUDA error",
    "[New LWP 12]",
    "#0  0x00007f in wait4 () from libc.so",
)

LOADS = [
    # a file
    (Cause.MISSING_FILE, "E gguf_init_from_file: failed to open GGUF file '/srv/x.gguf' (No such file or directory)"),
    (Cause.MISSING_FILE, "E llama_adapter_lora_init: failed to open 'lora.gguf': No such file or directory"),
    (
        Cause.MISSING_FILE,
        "E clip_init: failed to load model 'mm.gguf': clip_model_loader: failed to load CLIP model from mm.gguf. Does "
        "this file exist?",
    ),
    (Cause.PERMISSION, "E gguf_init_from_file: failed to open GGUF file '/srv/x.gguf' (Permission denied)"),
    (Cause.BAD_FILE, "E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'"),
    (Cause.BAD_FILE, "E gguf_init_from_reader: failed to read magic"),
    (Cause.BAD_FILE, "E gguf_init_from_reader: failed to read key-value pairs"),
    (
        Cause.BAD_FILE,
        "E gguf_init_from_reader: GGUFv1 is no longer supported, please use a more up-to-date version",
    ),
    (
        Cause.BAD_FILE,
        "E llama_model_load: error loading model: tensor 'blk.16.ffn_down.weight' data is not within the file bounds, "
        "model is corrupted or incomplete",
    ),
    (Cause.BAD_FILE, "E llama_model_load: error loading model: missing tensor 'output_norm.weight'"),
    (Cause.BAD_FILE, "E llama_model_load: error loading model: corrupted model: 291 tensors expected but 290 found"),
    (Cause.BAD_FILE, "E srv    load_model: failed to load draft model, 'draft.gguf'"),
    (
        Cause.BAD_FILE,
        "E llama_adapter_lora_init_from_file_ptr: failed to apply lora adapter: expect general.type to be 'adapter'",
    ),
    # an engine that is too old for it
    (Cause.OLD_ENGINE, "E llama_model_load: error loading model: unknown model architecture: 'llama9'"),
    (
        Cause.OLD_ENGINE,
        "E llama_model_load: error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'new'",
    ),
    (
        Cause.OLD_ENGINE,
        "E gguf_init_from_reader: this GGUF file is version 9 but this software only supports up to version 3",
    ),
    (
        Cause.OLD_ENGINE,
        "E gguf_init_from_reader: tensor 'token_embd.weight' has invalid ggml type 45. should be in [0, 42)",
    ),
    (
        Cause.OLD_ENGINE,
        "E llama_model_load: error loading model: done_getting_tensors: wrong number of tensors; expected 292, got 291",
    ),
    (Cause.OLD_ENGINE, "E clip_init: failed to load model 'mm.gguf': load_hparams: unknown projector type: new3n"),
    # an option
    (Cause.BAD_OPTION, "error: invalid argument: --bogus"),
    (Cause.BAD_OPTION, 'error while handling argument "-c": stoi'),
    (Cause.BAD_OPTION, 'error while handling argument "-ctk": Unsupported cache type: q9'),
    (Cause.BAD_OPTION, 'error while handling argument "--device": invalid device: CUDA9'),
    (Cause.BAD_OPTION, "error while handling argument \"--grammar-file\": error: failed to open file 'nope'"),
    (Cause.BAD_OPTION, "error: the supplied chat template is not supported: {{ bad"),
    (
        Cause.BAD_OPTION,
        "E llama_model_load_from_file_impl: invalid value for main_gpu: 7 (available devices: 1)",
    ),
    # memory of a device
    (
        Cause.DEVICE_MEMORY,
        "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of "
        "memory",
    ),
    (Cause.DEVICE_MEMORY, "E alloc_tensor_range: failed to allocate CUDA0 buffer of size 8589934592"),
    (Cause.DEVICE_MEMORY, "E ggml_gallocr_reserve_n: failed to allocate ROCm1 buffer of size 1126400000"),
    (Cause.DEVICE_MEMORY, "E llama_model_load: error loading model: unable to allocate CUDA0 buffer"),
    (Cause.DEVICE_MEMORY, "ggml_vulkan: Device memory allocation of size 1073741824 failed."),
    (Cause.DEVICE_MEMORY, "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"),
    (
        Cause.DEVICE_MEMORY,
        "ggml_vulkan: Requested buffer size exceeds device buffer size limit: ErrorOutOfDeviceMemory",
    ),
    (
        Cause.DEVICE_MEMORY,
        "E ggml_backend_metal_buffer_type_shared_alloc_buffer: failed to allocate Metal buffer of 9000 bytes (out of "
        "memory)",
    ),
    (Cause.DEVICE_MEMORY, "E ggml_metal_buffer_init: error: failed to allocate buffer, size =  8192.00 MiB"),
    (Cause.DEVICE_MEMORY, "E ggml_backend_sycl_buffer_type_alloc_buffer: can't allocate 900 Bytes of memory on device"),
    # memory of the machine
    (Cause.HOST_MEMORY, "E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 46082949120"),
    (
        Cause.HOST_MEMORY,
        "E ggml_backend_buft_alloc_buffer_n_default: failed to allocate CPU buffer of size 46082949120",
    ),
    (Cause.HOST_MEMORY, "E llama_model_load: error loading model: unable to allocate CPU_REPACK buffer"),
    (Cause.HOST_MEMORY, "E llama_model_load: error loading model: unable to allocate CUDA_Host buffer"),
    (Cause.HOST_MEMORY, "E llama_model_load: error loading model: mmap failed: Cannot allocate memory"),
    (Cause.HOST_MEMORY, "E ggml_aligned_malloc: insufficient memory (attempted to allocate 4096.00 MB)"),
    (Cause.HOST_MEMORY, "E ggml_sycl_host_malloc: can't allocate 900 Bytes of memory on host"),
    # memory of somebody
    (
        Cause.OUT_OF_MEMORY,
        "E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
    ),
    (
        Cause.OUT_OF_MEMORY,
        "E llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers",
    ),
    # libraries and drivers
    (
        Cause.LIBRARY,
        "/opt/llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No "
        "such file or directory",
    ),
    (
        Cause.LIBRARY,
        "/opt/llama-server: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /opt/llama-server)",
    ),
    (Cause.LIBRARY, "/opt/llama-server: /lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x)"),
    (Cause.LIBRARY, "/opt/llama-server: symbol lookup error: /opt/llama-server: undefined symbol: ggml_new"),
    # the socket, and what never ran
    (Cause.SOCKET, "E srv         start: couldn't bind HTTP server socket, hostname: /run/s.sock, port: 8080"),
    (Cause.ENGINE, "setpriv: failed to execute /opt/llama-server: No such file or directory"),
    (Cause.ENGINE, "/bin/sh: 1: /opt/llama-server: Exec format error"),
    (Cause.ENGINE, "llamarouter engine: the embedded engine has no option --rpc"),
]


@pytest.mark.parametrize(("cause", "line"), LOADS)
def test_a_line_of_a_failed_load_names_its_cause(cause: Cause, line: str) -> None:
    stamped = f"0.00.003.962 {line}" if line.startswith("E ") else line
    told = cause_in((stamped, *END), loading=True)
    assert told == (cause, line.removeprefix("E "))


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        (Cause.DEVICE_MEMORY, "E CUDA error: out of memory"),
        (Cause.DEVICE_MEMORY, "E ROCm error: out of memory"),
        (Cause.HOST_MEMORY, "terminate called after throwing an instance of 'std::bad_alloc'"),
        (Cause.LIBRARY, "E CUDA error: no kernel image is available for execution on the device"),
        (Cause.LIBRARY, "E CUDA error: the provided PTX was compiled with an unsupported toolchain."),
        (Cause.LIBRARY, "E CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
        (Cause.LIBRARY, "E ROCm error: invalid device function"),
        (None, "E CUDA error: an illegal memory access was encountered"),
        (None, "/src/ggml-backend.cpp:120: GGML_ASSERT(x) failed"),
        # of the load before it
        (None, "E llama_model_load: error loading model: unknown model architecture: 'llama9'"),
    ],
)
def test_an_abort_may_have_said_why(cause: Cause | None, line: str) -> None:
    stamped = f"0.00.003.962 {line}" if line.startswith("E ") else line
    told = cause_of_abort((stamped, *ABORT))
    assert (None if told is None else told[0]) is cause


@pytest.mark.parametrize(
    "line",
    [
        "0.00.003.962 W common_fit_params: failed to fit params to free device memory: already set",
        "0.00.003.962 W warning: failed to mlock 98304-byte buffer (after previously locking 0 bytes): Cannot allocate "
        "memory",
        "warning: failed to mlock 98304-byte buffer (after previously locking 0 bytes): Cannot allocate memory",
        "0.00.003.962 W ggml_vulkan: Failed to allocate pinned memory (vk::Device::allocateMemory)",
        "0.00.003.962 E WARNING: failed to allocate 12.00 MB of pinned memory: syclGetErrorString is not supported",
        "0.00.003.962 D ggml_cuda_host_malloc: failed to allocate 12.00 MiB of pinned memory: out of memory",
        "0.00.003.962 I srv    load_model: loading model '/srv/out of memory.gguf'",
    ],
)
def test_what_it_can_do_without_ended_nothing(line: str) -> None:
    assert cause_in((line,), loading=True) is None
    told = cause_in((line, "0.00.004.000 E x: invalid magic characters: 'hell', expected 'GGUF'"), loading=True)
    assert told is not None
    assert told[0] is Cause.BAD_FILE


def test_a_gpu_that_was_asked_for_and_has_no_driver() -> None:
    init = "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"
    told = cause_in((init, 'error while handling argument "--device": invalid device: CUDA0'), loading=True)
    assert told == (Cause.LIBRARY, init)
    # Without one that was asked for it goes on with the CPU.
    told = cause_in((init, *END), loading=True)
    assert told is not None
    assert told[0] is Cause.BAD_FILE


def test_what_was_said_long_ago_ended_nothing_that_served() -> None:
    memory = "0.00.001.000 E srv: failed to allocate memory for prompt cache state: std::bad_alloc"
    later = ("0.09.001.000 I slot release: id 0",) * 500
    assert cause_in((*later, memory), loading=False) == (Cause.HOST_MEMORY, bare(memory))
    assert cause_in((memory, *later), loading=False) is None
    assert cause_of_abort((memory, *later)) is None


def test_colours_and_stamps_are_looked_through() -> None:
    assert bare("\x1b[31m0.00.004.203 E x: y\x1b[0m") == "x: y"
    assert is_error("\x1b[31m0.00.004.203 E x: y\x1b[0m")
    assert not is_error("0.00.004.203 W x: y")
    assert not is_error("E x: y")
