"""What the commands show on such a machine, kept as they print it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.gpu.report import Report
from tests.gpu.router import Router

SHOWN = (
    ("ps",),
    ("ls",),
    ("top", "--once"),
    ("why", "MODEL"),
    ("plan", "MODEL"),
    ("explain", "MODEL"),
    ("doctor",),
)


def show(report: Report, router: Router, engine: Path, model: str, kept: Path | None) -> None:
    """Run each, note its exit code, and keep what it says. `kept`: the file for that."""
    texts, codes = [], {}
    for words in (*SHOWN, ("engine", "--engine", str(engine))):
        arguments = [model if word == "MODEL" else word for word in words]
        began = time.monotonic()
        done = router.lr(*arguments)
        codes[words[0]] = done.returncode
        took = f"code {done.returncode}, {time.monotonic() - began:.2f} s"
        texts.append(f"$ lr {' '.join(arguments)}    ({took})\n{done.stdout}")
    report.say(f"commands: {', '.join(f'{name} {code}' for name, code in codes.items())}")
    if kept is not None:
        kept.write_text("\n".join(texts), encoding="utf-8")
    report.figures["commands"] = codes
    wrong = {name: code for name, code in codes.items() if code != 0 and name != "doctor"}
    report.check("the commands end well", not wrong, str(wrong))
    _doctor(report, router)


def _doctor(report: Report, router: Router) -> None:
    """Warnings are the machine's; of the device and the engine there may be none."""
    done = router.lr("doctor", "--json")
    findings = json.loads(done.stdout)["findings"]
    for each in findings:
        if each["severity"] != "fine":
            report.say(f"  lr doctor: {each['severity']}: {each['area']}: {each['what']}")
    report.figures["doctor"] = {"code": done.returncode, "findings": findings}
    ours = [each for each in findings if each["area"] in ("engine", "devices", "device")]
    bad = [each["what"] for each in ours if each["severity"] in ("error", "warning")]
    report.check("lr doctor finds nothing wrong with engine and devices", bool(ours) and not bad, str(bad)[:300])
