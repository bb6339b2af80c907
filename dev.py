"""The project's chores, one command each. Standard library only: it makes the environment of everything else."""

from __future__ import annotations  # so that an older Python gets as far as the message that says it is too old

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "headrace-dev"  # first line: what the environment was made from; then the locks that are installed
LOCKS = ROOT / "requirements"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
POSTGRES = ("postgres", *map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")))
# By mark of tests: the programs they need, one of each row, and the packages of Debian that bring them.
NEEDS = {
    "browser": ((CHROMIUM,), ("chromium",)),
    "kafka": ((("java",), ("mvn",), ("openssl",)), ("default-jre-headless", "maven", "openssl")),
    "cassandra": ((("java",), ("mvn",)), ("openjdk-17-jre-headless", "maven")),
    "postgres": ((POSTGRES,), ("postgresql",)),
    "prometheus": ((("prometheus",), ("promtool",)), ("prometheus",)),
    "sftp": ((("sshd", "/usr/sbin/sshd"),), ("openssh-server",)),
    "clock": ((("cc",),), ("gcc", "libc6-dev")),
}

# For a Python that has no pip and cannot make one, as Debian's without python3-venv.
PIP = ("pip-26.3-py3-none-any.whl", "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13")
# pip's settings count for uv too, so that one set-up serves both.
PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}


def say(text: str) -> None:
    print(f"dev: {text}", file=sys.stderr, flush=True)


def stop(text: str, code: int = 2) -> NoReturn:
    say(text)
    raise SystemExit(code)


# ── the environment ──────────────────────────────────────────────────────────────────────────────────────────────────


def wanted_stamp() -> str:
    """What the environment depends on: the locks and the kind of Python."""
    import hashlib

    digest = hashlib.sha256()
    for lock in sorted(LOCKS.glob("*.lock")):
        digest.update(lock.name.encode() + lock.read_bytes())
    machine = "" if WINDOWS else os.uname().machine
    return f"{sys.implementation.cache_tag} {sys.platform} {machine} {digest.hexdigest()}"


def installed(stamp: str) -> set[str]:
    """The locks that stand in an environment made from `stamp`; none where it was made from anything else."""
    try:
        first, *names = STAMP.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return set()
    return set(names) if first == stamp and os.access(PYTHON, os.X_OK) else set()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one process of this checkout change the environment; others wait."""
    with (ROOT / ".venv.lock").open("w") as lock:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)  # tries for 10 s, then raises
        else:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another ./dev that is installing")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment(*locks: str) -> str:
    """Return the Python of `.venv`, with these locks installed."""
    stamp = wanted_stamp()
    if not installed(stamp).issuperset(locks):
        with one_at_a_time():
            have = installed(stamp)
            if not have:
                new_venv()
            for lock in locks:
                if lock not in have:
                    install(lock)
                    have |= {lock, "base"} if lock == "dev" else {lock}  # dev.lock holds all of base.lock
            STAMP.write_text("\n".join([stamp, *sorted(have)]), "utf-8")
    return str(PYTHON)


def new_venv() -> None:
    import subprocess

    if VENV.exists() and not STAMP.exists():
        stop(f"{VENV} was not made by ./dev. Move it away, then try again.")
    if VENV.exists():
        shutil.rmtree(VENV)
    VENV.mkdir()
    STAMP.touch()  # from here on it is ours, even if this is cut short
    base = getattr(sys, "_base_executable", "") or sys.executable
    # Without pip: Debian's Python has no ensurepip, and copying pip in takes longer than using the one outside.
    made = subprocess.run([base, "-m", "venv", "--without-pip", VENV], check=False)
    if made.returncode:
        stop("this Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv")
    tag = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = VENV / "Lib/site-packages" if WINDOWS else VENV / "lib" / tag / "site-packages"
    (site / "headrace.pth").write_text(os.path.relpath(ROOT / "src", site) + "\n", "utf-8")


def pip(base: str) -> list[str]:
    """Find a pip that can install into `.venv`, or put one in."""
    import re
    import subprocess

    def works(command: list[str], oldest: tuple[int, int]) -> bool:
        if not shutil.which(command[0]):
            return False
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"pip (\d+)\.(\d+)", answer)
        return version is not None and (int(version[1]), int(version[2])) >= oldest

    own = [base, "-m", "pip"]
    if works(own, (22, 3)):  # the first with --python
        return [*own, "--python", str(PYTHON)]
    if subprocess.run([PYTHON, "-m", "ensurepip"], capture_output=True, check=False).returncode == 0:
        return [str(PYTHON), "-m", "pip"]
    for other in (["pip3"], ["pip"]):
        if works(other, (23, 2)):  # the first that also runs on Python 3.12 and newer
            return [*other, "--python", str(PYTHON)]
    return [str(PYTHON), f"{fetch_pip()}/pip"]  # a wheel can be run as it is


def fetch_pip() -> Path:
    """Download the pip that is pinned here, from the index that pip itself would use."""
    import hashlib
    import re
    from urllib.parse import urljoin
    from urllib.request import urlopen

    name, digest = PIP
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    say(f"this Python has neither pip nor ensurepip; fetching {name} ...")
    try:
        with urlopen(index, timeout=60) as page:  # noqa: S310 - the index is the user's, the hash ours
            found = re.search(rf'href="([^"#]*{re.escape(name)})["#]', page.read().decode())
            link = urljoin(page.url, found[1]) if found else ""
        with urlopen(link, timeout=60) as file:  # noqa: S310
            wheel = file.read()
    except (OSError, ValueError) as error:
        stop(
            f"{name} cannot be had from {index.split('@')[-1]}: {error}\n"
            "dev: On Debian and Ubuntu: apt install python3-venv   (or: apt install python3-pip, or get uv)"
        )
    if hashlib.sha256(wheel).hexdigest() != digest:
        stop(f"{name} is not the file whose hash stands in dev.py: it was not used", code=1)
    target = VENV / name
    target.write_bytes(wheel)
    return target


def install(lock: str, target: Path | None = None) -> None:
    """Install what a lock names into `.venv`, or into a folder of its own."""
    import subprocess
    import time

    where = [] if target is None else ["--target", str(target)]
    what = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(LOCKS / f"{lock}.lock"), *where]
    if lock == "bench":  # pyspark ships as source only: build it with the setuptools of dev.lock, not with any other
        what += ["--no-binary", "pyspark", "--no-build-isolation"]
    start = time.monotonic()
    say(f"installing requirements/{lock}.lock into {target or '.venv (once, until a lock changes)'} ...")
    done = False
    if uv := shutil.which("uv"):
        env = dict(os.environ)
        for theirs, ours in PIP_TO_UV.items():
            if theirs in env:
                env.setdefault(ours, env[theirs].replace(" ", ",") if theirs == "PIP_FIND_LINKS" else env[theirs])
        command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON), *what]
        done = subprocess.run(command, env=env, check=False).returncode == 0
        if not done:
            say("uv failed; trying pip, which may know another index or certificate ...")
    if not done:
        base = getattr(sys, "_base_executable", "") or sys.executable
        command = [*pip(base), "install", "--quiet", "--disable-pip-version-check", "--no-compile", *what]
        if subprocess.run(command, check=False).returncode:
            stop(f"installing requirements/{lock}.lock failed; pip's message is above", code=1)
    say(f"installed in {time.monotonic() - start:.0f} s")


def become(*command: str) -> NoReturn:
    """Go on as another program, so that signals, terminal and exit code are its own."""
    if WINDOWS:  # where exec returns to the shell at once
        import subprocess

        raise SystemExit(subprocess.run(command, check=False).returncode)
    os.execv(command[0], command)


# ── the chores ───────────────────────────────────────────────────────────────────────────────────────────────────────


def demo(args: list[str]) -> NoReturn:
    os.environ["HEADRACE_PROGRAM"] = "./dev headrace"  # what the demo tells people to type
    become(environment("base"), "-m", "headrace", "demo", *args)


def headrace(args: list[str]) -> NoReturn:
    become(environment("base"), "-m", "headrace", *args)


def python(args: list[str]) -> NoReturn:
    become(environment("dev"), *args)


def test(args: list[str]) -> NoReturn:
    python = environment("dev")
    os.chdir(ROOT)
    if "--fast" in args:
        args = also_marked([arg for arg in args if arg != "--fast"], "not slow")
    prepare(python, args)
    become(python, "-m", "pytest", *workers(args), *args)


def also_marked(args: list[str], marks: str) -> list[str]:
    """Narrow what `-m` selects: pytest heeds only the last one."""
    if "-m" not in args[:-1]:
        return [*args, "-m", marks]
    at = len(args) - 1 - args[::-1].index("-m") + 1
    return [*args[:at], f"({args[at]}) and ({marks})", *args[at + 1 :]]


def workers(args: list[str]) -> list[str]:
    """Spread a run over the processors, except where that costs more than it gives or hides the terminal."""
    alone = any(a.startswith(("-n", "--pdb", "--co", "-s", "--capture")) or ".py" in a for a in args)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [] if alone or cores < 2 else ["-n", str(min(cores, 4)), "--dist", "worksteal"]


def chromium() -> str | None:
    """Return the Chromium (or Chrome) of this machine, which tests marked `browser` drive."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


def prepare(python: str, args: list[str]) -> None:
    """Install what tests of this run need beyond Python, where we may; what is missing then skips them and says why."""
    import subprocess

    def selects(mark: str) -> bool:
        collect = [python, "-m", "pytest", "--collect-only", "-qq", *also_marked(args, mark)]
        return subprocess.run(collect, capture_output=True, check=False).returncode == 0

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    for mark, (programs, packages) in NEEDS.items():
        if all(any(map(shutil.which, names)) for names in programs):
            continue
        if root and shutil.which("apt-get") and not starts_servers(packages) and selects(mark):
            install_debian(mark, packages)
    # Before the tests, whose time is limited.
    fetch = [python, "-m", "tools.services", "fetch"]
    if subprocess.run([*fetch, "--dry"], check=False).returncode and selects("kafka or cassandra"):
        say("tests of Kafka and Cassandra need their jars: ./dev services fetch ...")
        subprocess.run(fetch, check=False)


def starts_servers(packages: tuple[str, ...]) -> bool:
    """Whether installing would start a server that listens to the world, as it would on a machine that runs systemd."""
    return (
        bool({"openssh-server", "postgresql", "prometheus"}.intersection(packages))
        and Path("/run/systemd/system").exists()
    )


def install_debian(mark: str, packages: tuple[str, ...]) -> None:
    import subprocess

    say(f"tests marked {mark} need {' '.join(packages)}: apt-get update && apt-get install ...")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        if subprocess.run(["apt-get", "-qq", *step], env=env, stdout=subprocess.DEVNULL, check=False).returncode:
            say(f"apt-get {step[0]} failed: tests marked {mark} are skipped")
            return


def services(args: list[str]) -> NoReturn:
    python = environment("dev")
    os.environ["PYTHONPATH"] = str(ROOT)
    become(python, "-m", "tools.services", *args)


def check(args: list[str]) -> NoReturn:
    import subprocess
    from concurrent.futures import ThreadPoolExecutor

    if args:
        stop("check takes no arguments; single tools: ./dev python -m ruff | mypy ...")
    python = environment("dev")
    places = [place for place in ("src", "tests", "tools", "benchmarks", "dev.py") if (ROOT / place).exists()]
    checks = {
        "ruff check": ["-m", "ruff", "check", "."],
        "ruff format": ["-m", "ruff", "format", "--check", "."],
        "boundaries": ["tools/boundaries.py"],
        "mypy": ["-m", "mypy", *places],
    }

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, *command], cwd=ROOT, capture_output=True, text=True, check=False)

    failed = []
    with ThreadPoolExecutor(2) as pool:
        for name, done in zip(checks, pool.map(run, checks.values()), strict=True):
            print(f"── {name}\n{done.stdout}{done.stderr}", end="", flush=True)
            if done.returncode:
                failed.append(name)
    print(f"── check: {', '.join(failed)} failed" if failed else "── check: all passed")
    if "ruff format" in failed:
        print("   ./dev python -m ruff format")
    raise SystemExit(bool(failed))


def bench(args: list[str]) -> NoReturn:
    python = environment("dev", "bench") if "--peers" in args else environment("dev")
    os.chdir(ROOT)
    become(python, "-m", "benchmarks", *args)


def simulate(args: list[str]) -> NoReturn:
    python = environment("dev")
    os.chdir(ROOT)
    become(python, "-m", "tests.flow.simulate", *args)


def soak(args: list[str]) -> NoReturn:
    python = environment("dev")
    os.chdir(ROOT)
    if "-h" not in args and "--help" not in args:
        prepare(python, ["-m", "fault"])
    become(python, "-m", "tests.soak", *args)


def lock(args: list[str]) -> NoReturn:
    import subprocess
    import tomllib

    python = environment("dev")
    every = ["--universal", "--python-version", "3.11", "--generate-hashes", "--only-binary", ":all:", "--quiet"]
    every += ["--constraint", "requirements/constraints.txt", "--custom-compile-command", "./dev lock", *args]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    # dev first: base and bench then take its versions, so that one environment can hold them all.
    for name, inputs in {
        # The driver of the extra `scylla` has the name of the extra `cassandra`'s.
        "dev": ["pyproject.toml", *(f"--extra={e}" for e in extras if e != "scylla"), "--group", "dev"],
        "base": ["pyproject.toml", "--constraint", "requirements/dev.lock"],
        "scylla": ["--group", "scylla", "--constraint", "requirements/dev.lock"],
        "bench": ["--group", "bench", "--constraint", "requirements/dev.lock", "--no-binary", "pyspark"],
    }.items():
        command = [python, "-m", "uv", "pip", "compile", *every, *inputs, "--output-file", f"requirements/{name}.lock"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            stop(f"requirements/{name}.lock stays as it was", code=1)
    raise SystemExit(0)


COMMANDS: dict[str, tuple[Callable[[list[str]], NoReturn], str, str]] = {
    "demo": (
        demo,
        "[PROJECT] [--once] [--data DIR]",
        "Run a complete project on generated data, serve it, print what to click",
    ),
    "headrace": (headrace, "VERB ...", "The command line of this checkout, in its own environment"),
    "test": (
        test,
        "[--fast] [PYTEST ARGS]",
        "All tests that can run here, and what was skipped; --fast: not the slow ones",
    ),
    "check": (check, "", "Lint, format, types, and which folder may import which"),
    "simulate": (
        simulate,
        "[--schedules N] [--seed S] [--mutants [NAME ...]]",
        "Schedules of the seam; --seed alone: one, step by step; --mutants: each rule broken",
    ),
    "soak": (
        soak,
        "[--faults F1,F4] [--seeds N]",
        "Faults on a real broker, each at many fresh seeds; exit 1 at a wrong total",
    ),
    "bench": (bench, "[--peers] [ARGS]", "Benchmarks; --peers first installs what they compare with (0.5 GB)"),
    "lock": (lock, "[--upgrade] [UV ARGS]", "Write requirements/*.lock anew from pyproject.toml"),
    "services": (
        services,
        "up|down|status [NAME ...]",
        "Real servers on loopback: kafka, kafka3 (three brokers), sftp; without a name all of them",
    ),
    "python": (python, "[ARGS]", "The Python of the environment, with everything installed"),
}


def usage() -> str:
    rows = [(f"./dev {name} {args}".rstrip(), text) for name, (_, args, text) in COMMANDS.items()]
    width = max(len(left) for left, _ in rows)
    return "\n".join(
        [
            "One command a chore. The first of each kind installs what it needs into .venv, from locks with hashes.",
            "",
            *(f"  {left:<{width}}  {text}" for left, text in rows),
            "",
            "Environment:",
            "  HEADRACE_PYTHON         the Python to make .venv with, 3.11 or newer",
            "  HEADRACE_SERVICES       folder for what servers download; ~/.cache/headrace/services if not set",
            "  HEADRACE_TEST_DATA      folder with data sets of others, for the tests that read them",
            "  HEADRACE_TEST_STRICT=1  a skipped test is a failed test",
            "  PIP_*, UV_*             heeded by what installs: uv where it is on PATH, else pip",
        ]
    )


def main(name: str = "help", *args: str) -> NoReturn:
    if sys.version_info < (3, 11):  # noqa: UP036 - on Windows nothing has looked yet
        stop(f"Headrace needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    if name in {"help", "-h", "--help"}:
        print(usage())
        raise SystemExit(0)
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, 1)
        stop(f"no command {name!r}." + (f" Did you mean {near[0]!r}?" if near else "") + " ./dev help lists them.")
    try:
        COMMANDS[name][0](list(args))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
