"""Known vulnerabilities of the locked packages; status 1 when there is one that nobody decided about.

pip-audit asks PyPI's JSON pages. Where only a mirror without them answers, nothing can be said: that is
printed and is no failure.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "constraints.txt"
ACCEPTED: dict[str, str] = {}  # id of a vulnerability: why it does not matter here


def audit(lines: list[str]) -> list[dict] | None:
    """pip-audit's finding for each pinned package; None when the service does not answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text("\n".join(lines) + "\n")
        words = ["-r", str(path), "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *words], capture_output=True, text=True, check=False
        )
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None


def main() -> int:
    """Audit the lock; one package first, so that a mute service is asked once only."""
    pins = [line.strip() for line in LOCK.read_text().splitlines() if "==" in line and line[0] != "#"]
    first = audit([pin for pin in pins if pin.startswith("requests==")])
    if not first or "skip_reason" in first[0]:
        print(f"audit: NOT DONE, no vulnerability service answers here; {len(pins)} packages unaudited")
        return 0
    found = audit(pins)
    if found is None:
        print("audit: NOT DONE, the service broke off")
        return 0
    skipped = [item["name"] for item in found if "skip_reason" in item]
    open_ = [
        f"{item['name']} {item['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or '-'}"
        for item in found
        for flaw in item.get("vulns", [])
        if flaw["id"] not in ACCEPTED
    ]
    print(
        f"audit: {len(found) - len(skipped)} of {len(pins)} packages, {len(open_)} open findings",
        *open_,
        sep="\n  ",
    )
    if skipped:
        print(f"  not audited: {', '.join(skipped)}")
    return int(bool(open_))


if __name__ == "__main__":
    sys.exit(main())
