"""Whether the tiles of AMX really work here: some sandboxes show them in CPUID and do not let a program use them.

A native build trusts CPUID, so llama.cpp would die at its first quantised matrix. One small program, compiled and
run, tells: it asks the kernel for the tiles as llama.cpp does, loads a configuration and clears one tile.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

# Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA); see arch/x86/include/uapi/asm/prctl.h.
_PROGRAM = """
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
struct config { unsigned char palette, start, reserved[14]; unsigned short columns[16]; unsigned char rows[16]; };
int main(void) {
    struct config tiles __attribute__((aligned(64))) = {1};
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return 1;
    tiles.columns[0] = 4;
    tiles.rows[0] = 1;
    _tile_loadconfig(&tiles);
    _tile_zero(0);
    _tile_release();
    return 0;
}
"""
_SECONDS = 60.0


def claims_tiles(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the processor says that it has them."""
    try:
        return "amx_tile" in Path(cpuinfo).read_text()
    except OSError:
        return False


def tiles_work(compiler: str) -> bool:
    """Whether a program that uses them runs; False also where the compiler does not know them."""
    with tempfile.TemporaryDirectory(prefix="llamarouter-") as folder:
        program = Path(folder) / "tiles"
        compile_it = [compiler, "-x", "c", "-O1", "-mamx-tile", "-o", str(program), "-"]
        try:
            built = subprocess.run(compile_it, input=_PROGRAM, text=True, capture_output=True, timeout=_SECONDS)
            return built.returncode == 0 and subprocess.run([program], timeout=_SECONDS).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False
