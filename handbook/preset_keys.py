"""What the keys of a preset that the router reads itself mean: value, default, what it changes, and how it comes to
hold when the preset is reloaded.
"""

from __future__ import annotations

_AT_ONCE = "holds at once"
_ANEW = "drained, starts anew when it is asked for"
_NEXT_LOAD = "holds at its next load"

KEYS: dict[str, tuple[str, str, str, str]] = {
    "lr-engine": (
        "COMMAND",
        "that of the router",
        "the llama-server that this model runs on, with a prefix if need be (numactl -N 0 llama-server)",
        _ANEW,
    ),
    "lr-env": (
        "NAME=value ...",
        "",
        "variables for its process alone; several lines add up; no credentials, proxies or options of llama.cpp",
        _ANEW,
    ),
    "lr-require-full-offload": (
        "true, false",
        "false",
        "a load that would leave layers in host memory is refused instead (memory.md)",
        _NEXT_LOAD,
    ),
    "lr-ttl": (
        "90s, 15m, 2h, 1d, never",
        "--ttl, else never",
        "idle for so long, its process ends (lifetimes.md)",
        _AT_ONCE,
    ),
    "lr-pin": ("true, false", "--pin, else false", "it makes room for no other model (lifetimes.md)", _AT_ONCE),
    "lr-priority": (
        "whole number, also below 0",
        "0",
        "of the models that may go, those with less go first (lifetimes.md)",
        _AT_ONCE,
    ),
    "lr-queue-per-model": (
        "N",
        "--queue-per-model",
        "so many requests may wait for it (fairness.md)",
        _AT_ONCE,
    ),
    "lr-queue-timeout": (
        "seconds, 90s, 5m",
        "--queue-timeout",
        "a request that waits longer for it gets a 503 (fairness.md)",
        _AT_ONCE,
    ),
    "load-on-startup": ("true, false", "false", "loaded before anybody asks", "counts at the router's start only"),
    "stop-timeout": (
        "seconds",
        "--stop-timeout",
        "from asking its process to end until it is killed",
        _ANEW,
    ),
    "dedup-cache-models": (
        "true, false",
        "false",
        "files of the cache that this section serves are not listed by their own name as well",
        _AT_ONCE,
    ),
    "model": ("FILE", "", "its file, from the working directory, else from the preset's own folder", _ANEW),
    "hf-repo": ("USER/MODEL[:QUANT]", "", "its files on Hugging Face, fetched at the first request", _ANEW),
    "hf-file": ("FILE", "", "which file of hf-repo, instead of a QUANT", _ANEW),
    "mmproj": ("FILE", "that beside the model", "its projector (images, sound)", _ANEW),
    "alias": ("NAME, ...", "", "further names that it answers to, by commas", _AT_ONCE),
    "tags": ("WORD, ...", "", "shown with it in the list of models", _AT_ONCE),
    "ui": ("on, off", "on", "whether the web page shows it", _ANEW),
    "version": ("1", "", "of the file, before any section: says nothing of a model", ""),
}
