"""Every variable that is read besides those of the options of `lr serve`: by which program, and what for."""

from __future__ import annotations

_ALL = "every command"
_SERVE = "lr serve"
_BUILD = "lr engine build"
_CACHE = "lr serve, ls, pull, rm"
_SYSTEMD = "lr serve, from systemd"
_DEVICES = "lr serve, plan, doctor; every model, too"

VARIABLES: dict[str, tuple[str, str]] = {
    "LR_URL": ("every command that asks a router", "the address of one elsewhere, as --url"),
    "LR_API_KEY": ("every command that asks a router", "the key to show it"),
    "LR_ADMIN_SOCKET": (
        "every command that asks a router",
        "the socket of the service of this machine (default: /run/llamarouter-admin.sock)",
    ),
    "LR_STATE_DIR": (
        "lr serve, key, explain, plan, doctor",
        "where keys, learnt footprints and read headers are kept (default: llamarouter in XDG_STATE_HOME)",
    ),
    "LR_DATA_DIR": ("lr serve, engine", "where a built engine lies (default: llamarouter in XDG_DATA_HOME)"),
    "LR_DEBUG": (_ALL, "anything: a traceback instead of one line where something went wrong"),
    "_LR_COMPLETE": ("the shell, by lr completion", "have names completed"),
    "COMP_LINE": ("the shell, by lr completion", "what has been written of the line"),
    "SHELL": ("lr completion", "for which shell, if it is not said"),
    "LR_COMPLETION_SECONDS": ("the shell, by lr completion", "how long names of models may take (default: 0.2)"),
    "NO_COLOR": (_ALL, "anything: no colours"),
    "TERM": (_ALL, "dumb: no colours, no live pictures"),
    "COLUMNS": ("lr top", "how wide the picture is where its output is no terminal"),
    "PATH": (_ALL, "where llama-server, systemctl, nvcc and the like are looked for; every model has it"),
    "HOME": (_ALL, "where the folders below ~ are; every model has it"),
    "TMPDIR": (_ALL, "where the runtime folder is, without XDG_RUNTIME_DIR and for others than root"),
    "XDG_RUNTIME_DIR": (_ALL, "where the runtime folder is, which holds the sockets of router and models"),
    "XDG_STATE_HOME": (_ALL, "as LR_STATE_DIR says (default: ~/.local/state)"),
    "XDG_DATA_HOME": (_ALL, "as LR_DATA_DIR says (default: ~/.local/share)"),
    "XDG_CONFIG_HOME": (
        "lr serve, explain, service",
        "where llama.cpp's config.ini and the units of a user are (default: ~/.config)",
    ),
    "XDG_CACHE_HOME": (_CACHE, "where models are cached, without LLAMA_CACHE and HF_*; where lr engine build unpacks"),
    "LLAMA_CACHE": (_CACHE, "llama.cpp's own folder of fetched models: looked at first"),
    "HF_HUB_CACHE": (_CACHE, "the cache of Hugging Face, where LLAMA_CACHE does not say it"),
    "HUGGINGFACE_HUB_CACHE": (_CACHE, "its older name"),
    "HF_HOME": (_CACHE, "its hub/ is that cache, where the three before do not say it"),
    "HF_ENDPOINT": ("lr serve, pull", "where the Hub is (default: https://huggingface.co)"),
    "MODEL_ENDPOINT": ("lr serve, pull", "the same, and before it"),
    "HF_TOKEN_PATH": ("lr serve, pull", "a file with the Hub's token; the unit of lr service sets it"),
    "LLAMA_SERVER_DEBUG_FAKE_TIMING": (_SERVE, "anything: loads and requests take 2 s longer, for tests of clients"),
    "AIP_MODE": (_SERVE, "PREDICTION: the route of AIP_PREDICT_ROUTE is refused by name, as it is not built"),
    "AIP_PREDICT_ROUTE": (_SERVE, "which route that is (default: /predict)"),
    "NOTIFY_SOCKET": (_SYSTEMD, "where it is told that the router is ready, reloads, stops"),
    "WATCHDOG_USEC": (_SYSTEMD, "within what time it wants to hear of the router"),
    "WATCHDOG_PID": (_SYSTEMD, "whose word that is"),
    "LISTEN_PID": (_SYSTEMD, "who the sockets are for"),
    "LISTEN_FDS": (_SYSTEMD, "how many sockets there are"),
    "LISTEN_FDNAMES": (_SYSTEMD, "what they are called: http, admin"),
    "JOURNAL_STREAM": (_SYSTEMD, "whether its journal reads the log, which then has levels in front of its lines"),
    "CUDA_VISIBLE_DEVICES": (_DEVICES, "which cards there are, and their order"),
    "CUDA_DEVICE_ORDER": (_DEVICES, "how cards are counted"),
    "HIP_VISIBLE_DEVICES": (_DEVICES, "which cards of AMD there are"),
    "ROCR_VISIBLE_DEVICES": (_DEVICES, "the same, one layer below"),
    "GGML_VK_VISIBLE_DEVICES": (_DEVICES, "which devices of Vulkan there are"),
    "ONEAPI_DEVICE_SELECTOR": (_DEVICES, "which devices of oneAPI there are"),
    "ASCEND_RT_VISIBLE_DEVICES": (_DEVICES, "which cards of Ascend there are"),
    "CXX": (_BUILD, "the C++ compiler"),
    "CUDA_HOME": (_BUILD, "where CUDA is, if nvcc is not on the PATH"),
    "CUDA_PATH": (_BUILD, "the same"),
}
