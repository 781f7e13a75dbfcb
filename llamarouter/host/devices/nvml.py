"""NVIDIA's cards through NVML, the driver's own library: memory, and who holds how much of it.

Called by ctypes, a dozen functions: the library belongs to the driver, and none is needed where there is no card.
May hang when a card hangs; therefore only a process of its own calls it (`driver_process`).

With MIG, a card is as many devices as it has instances; without an instance it is none, as for CUDA.
Source: nvml.h of CUDA 12 (the structures and versions of the functions).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from llamarouter.core.physical import Physical

_SUCCESS = 0
_NOT_SUPPORTED = 3
_TOO_SMALL = 7
_NO_FIGURE = 2**64 - 1  # of a process whose memory the driver does not know (Windows, vGPU)
_PROCESSES_MAX = 4096
_TEXT = 96


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Pci(ctypes.Structure):
    _fields_ = (
        ("legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("ids", ctypes.c_uint * 2),
        ("bus_id", ctypes.c_char * 32),
    )


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class NvmlError(Exception):
    """The driver has no answer. One line."""


class Nvml:
    """An open library. The handles are asked for anew each time: cards come and go."""

    def __init__(self, library: str) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise NvmlError(f"NVIDIA's library cannot be used: {error}") from error
        self._call("nvmlInit_v2")

    def cards(self) -> tuple[list[Physical], list[str]]:
        """All cards by their PCI addresses, and a line for each that is lost. Raises NvmlError."""
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        found: list[Physical] = []
        problems = []
        for index in range(count.value):
            try:
                found += self._devices_of(index)
            except NvmlError as error:  # it fell off the bus: the others are still there
                problems.append(f"card {index}: {error}")
        return sorted(found, key=lambda card: card.address), problems

    def _devices_of(self, index: int) -> list[Physical]:
        """A card, or its instances."""
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
        address = self._address(handle)
        if not self._is_partitioned(handle):
            return [self._card(handle, address)]
        return [self._card(each, f"{address}/{at}") for at, each in enumerate(self._instances(handle))]

    def _card(self, handle: ctypes.c_void_p, address: str) -> Physical:
        memory = _Memory()
        # A card without memory of its own (Grace Blackwell's small sister) has no answer to this.
        unified = self._try("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)) == _NOT_SUPPORTED
        if not unified and not memory.total:
            raise NvmlError(f"NVIDIA's driver does not say how much memory {address} has")
        return Physical(
            driver="nvidia",
            address=address,
            name=self._text("nvmlDeviceGetName", handle),
            uuid=self._text("nvmlDeviceGetUUID", handle),
            total=memory.total,
            free=memory.free,
            held=self._held(handle),
            unified=unified,
        )

    def _address(self, handle: ctypes.c_void_p) -> str:
        pci = _Pci()
        self._call("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci))
        return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"

    def _is_partitioned(self, handle: ctypes.c_void_p) -> bool:
        current, pending = ctypes.c_uint(), ctypes.c_uint()
        code = self._try("nvmlDeviceGetMigMode", handle, ctypes.byref(current), ctypes.byref(pending))
        return code == _SUCCESS and current.value == 1

    def _instances(self, handle: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
        most = ctypes.c_uint()
        self._call("nvmlDeviceGetMaxMigDeviceCount", handle, ctypes.byref(most))
        for index in range(most.value):
            instance = ctypes.c_void_p()
            if self._try("nvmlDeviceGetMigDeviceHandleByIndex", handle, index, ctypes.byref(instance)) == _SUCCESS:
                yield instance

    def _held(self, handle: ctypes.c_void_p) -> dict[int, int] | None:
        """Bytes by process; one that computes and draws is in both lists with the same figure."""
        held: dict[int, int] = {}
        lists = (self._processes(f"nvmlDeviceGet{kind}RunningProcesses_v3", handle) for kind in ("Compute", "Graphics"))
        known = False
        for processes in lists:
            known = known or processes is not None
            for process in processes or ():
                if process.used == _NO_FIGURE:
                    return None
                held[process.pid] = max(held.get(process.pid, 0), process.used)
        return held if known else None

    def _processes(self, function: str, handle: ctypes.c_void_p) -> list[_Process] | None:
        size = 64
        while size <= _PROCESSES_MAX:
            count = ctypes.c_uint(size)
            array = (_Process * size)()
            code = self._try(function, handle, ctypes.byref(count), array)
            if code != _TOO_SMALL:
                return list(array[: min(count.value, size)]) if code == _SUCCESS else None
            size *= 4
        return None

    def _text(self, function: str, handle: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(_TEXT)
        code = self._try(function, handle, buffer, _TEXT)
        return buffer.value.decode("utf-8", "replace") if code == _SUCCESS else ""

    def _call(self, function: str, *arguments: object) -> None:
        code = self._try(function, *arguments)
        if code != _SUCCESS:
            raise NvmlError(f"NVIDIA's driver does not answer: {function} says {code}")

    def _try(self, function: str, *arguments: object) -> int:
        """The code of a call; an older driver that lacks the function does not support it."""
        try:
            return int(getattr(self._library, function)(*arguments))
        except AttributeError:
            return _NOT_SUPPORTED
