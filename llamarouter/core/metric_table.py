"""Every metric of the router's own, by name: the table of `docs/metrics.md`, which a test holds to this one.

No label has a value that a client has chosen: a model is one of the list, a key one of the file, and all else are words
of ours. What is asked of a model that nobody knows is counted as that of `_unknown`.
"""

from __future__ import annotations

from llamarouter.core.exposition import Kind, Metric

UNKNOWN = "_unknown"  # the model of requests that name none of the list
NO_ANSWER = "none"  # the status of a request whose client left before there was one

# Upper ends in seconds. Of answers: from a vector to a long text. What comes as a whole has one place in both.
ANSWER_SECONDS = (0.002, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
QUEUE_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LOAD_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM


def _metric(name: str, kind: Kind, labels: str, help: str, of: str = "llamarouter_") -> Metric:
    return Metric(of + name, kind, tuple(labels.split()), help)


BUILD = _metric("build_info", _GAUGE, "version engine engine_build", "Always 1; its labels say what runs.")
DRAINING = _metric("draining", _GAUGE, "", "1 while the router is about to end and takes no newcomers.")

REQUESTS = _metric(
    "requests_total",
    _COUNTER,
    "model route status",
    "Requests that are over, by model (none: the router answers itself), kind of route and class of the status.",
)
REFUSALS = _metric(
    "refusals_total", _COUNTER, "model reason", "Answers that are an error of the router's own, by its reason."
)
BROKEN = _metric(
    "answers_broken_total",
    _COUNTER,
    "model by",
    "Answers that had begun and did not come to their end, by who broke them off: client, or model.",
)
DURATION = _metric(
    "request_duration_seconds",
    _HISTOGRAM,
    "model route",
    "From the first byte of a request to the last of its answer, of those that were in a model.",
)
FIRST_BYTE = _metric(
    "time_to_first_byte_seconds",
    _HISTOGRAM,
    "model route",
    "From the first byte of a request to the first that its model answers, queue and load included.",
)
QUEUE = _metric(
    "queue_wait_seconds", _HISTOGRAM, "model", "How long requests waited for a place, their model's load left out."
)
LOAD_WAIT = _metric("load_wait_seconds_total", _COUNTER, "model", "How long requests waited for a load, in all.")
RELAYED = _metric(
    "relay_bytes_total", _COUNTER, "model direction", "Bytes of bodies, in (to the model) and out (from it)."
)
TOKENS = _metric(
    "tokens_total",
    _COUNTER,
    "model kind estimated",
    "Tokens by kind: prompt (read), cached (known already), generated; estimated: no answer has said how many.",
)

WAITING = _metric("queue_depth", _GAUGE, "model", "Requests that wait for a place.")
IN_FLIGHT = _metric("requests_in_flight", _GAUGE, "model", "Requests inside of the model's process.")
SLOTS = _metric("slots", _GAUGE, "model", "Slots of the model's process.")
STATE = _metric("model_state", _GAUGE, "model state", "1 for the state in which the model is.")
MODELS = _metric("models", _GAUGE, "state", "Models by state.")

LOADS = _metric("loads_total", _COUNTER, "model result", "Loads that are over: ready, failed, or stopped before.")
LOAD_TIME = _metric("load_duration_seconds", _HISTOGRAM, "model", "From the start of a process until it is ready.")
EVICTIONS = _metric(
    "evictions_total",
    _COUNTER,
    "model reason",
    "Processes that the router ended: place, memory (another needed it), expired (idle), unloaded (asked to), closing.",
)
FAILURES = _metric(
    "failures_total",
    _COUNTER,
    "model stage cause",
    "Processes that ended unasked, while loading or serving, by cause (docs/failures.md).",
)

DEVICE_TOTAL = _metric("device_memory_total_bytes", _GAUGE, "device", "Memory of a device.")
DEVICE_FREE = _metric("device_memory_free_bytes", _GAUGE, "device", "What is free of it, as its driver says.")
DEVICE_HELD = _metric(
    "device_memory_held_bytes", _GAUGE, "device", "What models hold of it, or will when they are loaded, by the books."
)
DEVICE_BUDGET = _metric(
    "device_memory_budget_bytes", _GAUGE, "device", "What models may hold of it together, the reserve taken off."
)
DEVICE_STALE = _metric("device_stale", _GAUGE, "device", "1 while the device does not answer: its figures are old.")
DEVICE_AGE = _metric("devices_age_seconds", _GAUGE, "", "How long ago the devices were looked at.")
MODEL_MEMORY = _metric("model_memory_bytes", _GAUGE, "model device", "What a model holds, or will, by the books.")

KEY_REQUESTS = _metric("key_requests_total", _COUNTER, "key status", "Requests of a key, by class of the status.")
KEY_REFUSALS = _metric("key_refusals_total", _COUNTER, "key reason", "What was refused to a key, by reason.")
KEY_TOKENS = _metric("key_tokens_total", _COUNTER, "key kind estimated", "Tokens of a key, as in tokens_total.")

CONNECTIONS = _metric("connections", _GAUGE, "", "Connections of clients.")
CHILD_CONNECTIONS = _metric("model_connections", _GAUGE, "model", "Connections from the router to the model's process.")
CHILD_AGE = _metric(
    "model_metrics_age_seconds", _GAUGE, "model", "How long ago the llamacpp: figures of the model were taken."
)

CPU = _metric("process_cpu_seconds_total", _COUNTER, "", "CPU time of the router, user and system.", of="")
RESIDENT = _metric("process_resident_memory_bytes", _GAUGE, "", "Resident memory of the router.", of="")
VIRTUAL = _metric("process_virtual_memory_bytes", _GAUGE, "", "Virtual memory of the router.", of="")
OPEN_FDS = _metric("process_open_fds", _GAUGE, "", "Open file descriptors of the router.", of="")
MAX_FDS = _metric("process_max_fds", _GAUGE, "", "How many it may have open.", of="")
STARTED = _metric("process_start_time_seconds", _GAUGE, "", "When the router was started, in unix seconds.", of="")

METRICS: tuple[Metric, ...] = tuple(each for each in globals().values() if isinstance(each, Metric))
