"""Install hrlib as README says, on a bare Debian in a folder of its own, and keep the ends of what was printed.

    python benchmarks/bare_install.py                     # Debian 12, Python 3.11; writes results/install_bookworm.json
    python benchmarks/bare_install.py --suite trixie      # Debian 13, whose Python is refused
    python benchmarks/bare_install.py --suite noble --mirror URL --key FILE   # Ubuntu 24.04, Python 3.12
    python benchmarks/bare_install.py --wheels FOLDER     # where pip also finds wheels, e.g. PyTorch's for the CPU

Needs Linux, root, mmdebstrap (`apt-get install mmdebstrap`), a network and 12 GB below build/. The system has the packages
`PACKAGES` and no others. A user who is not root clones the checkout's commit there and runs README's own lines, with one
figure instead of all. Then come the wheel in an environment of its own, and JupyterLab, asked by HTTP for its page, a notebook
and a kernel.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hrlib.companion import results
from hrlib.support import paths

PACKAGES = "apt,git,make,python3,python3-venv,ca-certificates"  # apt is in every image; docs/install.md has the rest
KEPT_LINES = 6  # of what each step prints
PASSED = ("PIP_CERT", "PIP_DEFAULT_TIMEOUT")  # of our own settings; all others are those of a fresh system
ENTER = """set -e
mount --bind "$0" "$0" && cd "$0"
mount -t proc proc proc && mount --rbind /dev dev && mount --rbind /sys sys
[ -z "$1" ] || mount --bind "$1" wheels
exec chroot . setpriv --reuid reader --regid reader --init-groups env -i HOME=/home/reader PATH=/usr/bin:/bin LANG=C.UTF-8 \
  {settings} bash -ec "cd ~; $2"
"""
LAB = r"""
make -s lab BROWSER=true > ~/lab.log 2>&1 & lab=$!
trap 'kill $lab' EXIT
for i in $(seq 120); do grep -qo "http://localhost:[0-9]*/lab?token=[0-9a-f]*" ~/lab.log && break; sleep 1; done
address=$(grep -om1 "http://localhost:[0-9]*/lab?token=[0-9a-f]*" ~/lab.log)
.venv/bin/python - "$address" <<'END'
import json, sys, urllib.request
base, token = sys.argv[1].split("/lab?token=")
def ask(path, data=None):
    request = urllib.request.Request(base + path, data, {"Authorization": "token " + token})
    return urllib.request.urlopen(request, timeout=60).read()
assert b"JupyterLab" in ask("/lab")
names = [entry["name"] for entry in json.loads(ask("/api/contents"))["content"]]
cells = json.loads(ask("/api/contents/00_hand.ipynb"))["content"]["cells"]
kernel = json.loads(ask("/api/kernels", b"{}"))["name"]
count = sum(name.endswith(".ipynb") for name in names)
print(f"JupyterLab answers: {count} notebooks, 00 has {len(cells)} cells, kernel {kernel} started")
END
"""


FRAMES = """
import sys
from pathlib import Path
import numpy
import hrlib
from hrlib.synthetic.people import USERS
(folder := Path(sys.argv[1])).mkdir()
for i, frame in enumerate(USERS["A"].frames(hrlib.load_hand(), 6, "test")):
    numpy.save(folder / f"{i}.npy", frame.depth_mm)
"""


def steps() -> dict[str, str]:
    """Name and shell lines of each step, in their order; README's own where it has them."""
    block = re.search(r"```sh\n(git clone.*?)```", (paths.ROOT / "README.md").read_text(), re.DOTALL)[1]
    clone, setup, figures = (line.split("#")[0].strip() for line in block.splitlines())
    here = "cd hrlib && "
    return {
        "python3 --version": "python3 --version; make --version | head -1",
        clone: clone.replace("URL-OF-THIS-REPOSITORY", "file:///srv/hrlib.git") + " && git log -1 --format=%h",
        setup: f"{here}{setup}; du -sh .venv",
        f"{figures} ONLY=01": f"{here}{figures} ONLY=01; ls -l build/figures.html; git status --short figures",
        "hrlib predict": f"{here}source .venv/bin/activate\npython - ~/frames <<'END'{FRAMES}END\n"
        "hrlib predict ~/frames --camera 525 525 --unit-mm 1 --out ~/joints.csv; wc -l ~/joints.csv",
        "hrlib refine": f"{here}source .venv/bin/activate\n"
        "hrlib refine ~/frames --camera 525 525 --unit-mm 1 --out ~/me; ls ~/me",
        "make test, of two files": f"{here}make test NOTEBOOKS= ARGS=\"-m 'not slow' -k 'kinematics or losses'\"",
        "make wheel": f"{here}make wheel",
        "make lab": f"cd hrlib\n{LAB}",  # on a line of its own: what follows && would go to the background, too
    }


def bare_system(root: Path, arguments) -> None:
    """A fresh system below `root`, with a user, the repository and, where ours has one, the certificate of the network."""
    options = ["--variant=minbase", f"--include={PACKAGES}", "--quiet"]
    if arguments.key:
        options.append(f"--keyring={arguments.key}")
    if arguments.components:
        options.append(f"--components={arguments.components}")
    subprocess.run(["mmdebstrap", *options, arguments.suite, str(root), arguments.mirror], check=True)
    subprocess.run(["chroot", root, "useradd", "--create-home", "reader"], check=True)
    (root / "wheels").mkdir()
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", "--depth", "1", paths.ROOT.as_uri(), root / "srv/hrlib.git"], check=True
    )
    subprocess.run(
        ["chroot", root, "chown", "--recursive", "reader", "/srv/hrlib.git"], check=True
    )  # git trusts no other's
    for name in ("/etc/resolv.conf", "/etc/hosts", os.environ.get("PIP_CERT")):
        if name and Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))


def walked(root: Path, wheels: Path | None, lines: str) -> tuple[int, str]:
    """Exit status and output of shell lines of the user, in the system below `root`."""
    settings = {name: os.environ[name] for name in PASSED if name in os.environ}
    settings |= {"PIP_FIND_LINKS": "/wheels"} if wheels else {}
    enter = ENTER.format(settings=" ".join(f"{name}={value}" for name, value in settings.items()))
    (root / "home/reader/step.sh").write_text(f"set -e\n{lines}\n")
    command = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", enter, root, wheels or "", "bash -e step.sh"]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def end_of(text: str) -> list[str]:
    """The last lines, as a terminal would show them after progress bars have overwritten themselves."""
    lines = (line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines())
    return [line[:200] for line in lines if line][-KEPT_LINES:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--components", help="of the mirror, where main is not enough")
    parser.add_argument("--key", type=Path, help="keyring of the mirror, where this system does not know it")
    parser.add_argument("--wheels", type=Path, help="folder of wheels for pip, beside the package index")
    parser.add_argument("--until", help="the first letters of the last step to take")
    parser.add_argument(
        "--keep", action="store_true", help="leave the system in build/, and begin in one that is there"
    )
    arguments = parser.parse_args()
    root = paths.BUILD / f"bare_{arguments.suite}"
    if not (arguments.keep and root.exists()):
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(exist_ok=True)
        bare_system(root, arguments)
    made = results.provenance({"suite": arguments.suite, "packages": PACKAGES}, None, None)  # as cloned
    told, status = [], 0
    for name, lines in steps().items():
        began = time.monotonic()
        status, text = walked(root, arguments.wheels, lines)
        told.append({"step": name, "status": status, "seconds": round(time.monotonic() - began), "end": end_of(text)})
        print(f"{name}: status {status}, {told[-1]['seconds']} s", *told[-1]["end"], sep="\n  ", flush=True)
        if status or (arguments.until and name.startswith(arguments.until)):
            break
    release = re.search(r'PRETTY_NAME="(.*)"', (root / "etc/os-release").read_text())[1]
    metrics = {"system": release, "complete": not status, "steps": told}
    results.write_result(
        paths.BENCHMARKS / f"install_{arguments.suite}.json", f"install_{arguments.suite}", metrics, {}, made, "full"
    )
    if not arguments.keep:
        shutil.rmtree(root)
    return status


if __name__ == "__main__":
    sys.exit(main())
