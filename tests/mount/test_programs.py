"""Programs that know nothing of S3 do their work in the mount."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.mount.mount_process import DaemonProcess

pytestmark = pytest.mark.mount

SQLITE = """
import os, sqlite3
for mode in ("DELETE", "TRUNCATE", "PERSIST", "WAL"):
    name = f"{mode}.db"
    db = sqlite3.connect(name, timeout=20)
    assert db.execute(f"pragma journal_mode={mode}").fetchone()[0].upper() == mode
    db.execute("create table t(a integer primary key, b text)")
    for _ in range(6):
        with db:
            db.executemany("insert into t(b) values(?)", [("x" * 200,)] * 100)
    with db:
        db.execute("delete from t where a % 3 = 0")
    db.execute("vacuum")
    try:
        with db:
            db.execute("insert into t(b) values('not to be')")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    # A second connection reads while the first writes, and waits its turn to write.
    other = sqlite3.connect(name, timeout=20)
    db.execute("begin immediate")
    db.execute("insert into t(b) values('second')")
    assert other.execute("select count(*) from t").fetchone() == (400,)
    db.commit()
    with other:
        other.execute("insert into t(b) values('third')")
    db.close()
    other.close()
    db = sqlite3.connect(name)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert db.execute("select count(*) from t").fetchone() == (402,)
    db.close()
left = [name for name in os.listdir() if not name.endswith((".db", "-journal"))]
assert not left, left
"""

LOGGING = """
import os, shutil, subprocess, sys
program = '''
import os, sys
for number in range(60):
    log = os.open("app.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.write(log, b"%s %04d\\\\n" % (sys.argv[1].encode(), number))
    os.close(log)
'''
writers = [subprocess.Popen([sys.executable, "-c", program, str(n)]) for n in range(3)]
assert all(writer.wait() == 0 for writer in writers)
lines = open("app.log").read().splitlines()
assert len(set(lines)) == len(lines) == 180, len(lines)
# logrotate with `create`: the writer goes on with the file it has.
held = open("app.log", "a")
print("before", file=held, flush=True)
os.rename("app.log", "app.log.1")
print("after", file=held, flush=True)
with open("app.log", "a") as fresh:
    fresh.write("new\\n")
held.close()
assert open("app.log.1").read().endswith("before\\nafter\\n")
assert open("app.log").read() == "new\\n"
# logrotate with `copytruncate`.
held = open("copied.log", "a")
print("x" * 100, file=held, flush=True)
shutil.copy("copied.log", "copied.log.1")
os.truncate("copied.log", 0)
print("y", file=held, flush=True)
held.close()
assert open("copied.log").read() == "y\\n"
"""

EDITOR = """
import os
open("text", "w").write("version 0\\n")
os.chmod("text", 0o640)
for number in range(1, 4):
    swap = os.open(".text.swp", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.write(swap, b"swap" * 1000)
    os.fsync(swap)
    mode = os.stat("text").st_mode & 0o7777
    new = os.open("text.new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    os.fchmod(new, mode)
    os.write(new, b"version %d\\n" % number)
    os.fsync(new)
    os.close(new)
    os.rename("text", "text~")
    os.rename("text.new", "text")
    folder = os.open(".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    os.close(swap)
    os.unlink(".text.swp")
    assert open("text").read() == f"version {number}\\n"
    assert open("text~").read() == f"version {number - 1}\\n"
assert sorted(os.listdir()) == ["text", "text~"]
assert os.stat("text").st_mode & 0o7777 == 0o640
"""

MAKE = r"""
printf 'int f(void) { return 41; }\n' > f.c
printf '#include <stdio.h>\nint f(void);\nint main(void) { printf("%%d", f() + 1); }\n' > m.c
printf 'app: m.o lib.a\n\t$(CC) -o $@ m.o lib.a\nlib.a: f.o\n\tar rcs $@ f.o\n' > Makefile
make -s
test "$(./app)" = 42
make | grep 'up to date'
sleep 0.02
printf 'int f(void) { return 99; }\n' > f.c
make -s
strip app
test "$(./app)" = 100
make -q
"""

TAR = """
mkdir source unpacked
cp -a {library} source/
ln -s email source/link
mkfifo source/fifo
chmod 640 source/email/charset.py
touch -d '2001-02-03 04:05:06.789' source/email/errors.py source/email
tar --format=pax -cf t.tar -C source .
tar xpf t.tar -C unpacked
tar df t.tar -C unpacked
diff -r source/email unpacked/email
test "$(stat -c %y unpacked/email)" = "$(stat -c %y source/email)"
test -p unpacked/fifo
"""

RSYNC = """
mkdir source
cp -a {library} source/
ln -s email source/link
setfattr -n user.kept -v value source/email/__init__.py
touch -d '2001-02-03 04:05:06.789' source/email/errors.py
changes() {{ rsync -aHX --itemize-changes "$@"; }}
changes source/ target/ > first
test -z "$(changes source/ target/)"
getfattr -n user.kept target/email/__init__.py
dd if=/dev/urandom of=source/big bs=1M count=7 status=none
changes source/ target/ | grep big
printf edited | dd of=source/big bs=1 seek=3000000 conv=notrunc status=none
echo more >> source/email/message.py
changes --inplace --no-whole-file --checksum source/ target/ | grep message.py
diff -r --no-dereference source/email target/email
cmp source/big target/big
rm source/email/errors.py
changes --delete source/ target/ | grep 'deleting *email/errors.py'
test ! -e target/email/errors.py
test -z "$(changes --checksum --delete source/ target/)"
"""

GIT = """
export HOME=$PWD GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b main work && cd work
for n in 1 2 3; do echo $n > file$n; git add . ; git commit -qm $n; done
git checkout -qb side HEAD~1
echo side > side
git add side
git commit -qm side
git rebase -q main
git gc -q --prune=now
git fsck --strict
git status --porcelain > ../status
test ! -s ../status
test "$(git log --oneline | wc -l)" = 4

cd ..
git clone -q work copy
git -C copy fsck
"""


def run(mount: DaemonProcess, folder: Path, script: str) -> None:
    """A shell script as uid 1001, in the folder."""
    mount.sh(f"cd {folder}\n{script}", uid=1001, seconds=110)


def run_python(mount: DaemonProcess, folder: Path, script: str) -> None:
    where = f"import os; os.chdir({str(folder)!r})\n"
    mount.python(where + script, uid=1001, seconds=110)


def library() -> str:
    """A folder of some thirty files that every host with Python has."""
    return sysconfig.get_paths()["stdlib"] + "/email"


def need(*programs: str) -> None:
    for program in programs:
        assert shutil.which(program) is not None, f"{program} is missing: scripts/test installs it"


def test_sqlite_in_every_journal_mode(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, SQLITE)


def test_logs_that_are_appended_to_and_rotated(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, LOGGING)


def test_an_editor_saves(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, EDITOR)


def test_make_builds_what_changed(mount: DaemonProcess, folder: Path) -> None:
    need("make", "cc", "strip")
    run(mount, folder, MAKE)


def test_tar_there_and_back(mount: DaemonProcess, folder: Path) -> None:
    run(mount, folder, TAR.format(library=library()))


def test_rsync_default_and_in_place(mount: DaemonProcess, folder: Path) -> None:
    need("rsync", "setfattr")
    run(mount, folder, RSYNC.format(library=library()))


def test_git_rebase_and_gc(mount: DaemonProcess, folder: Path) -> None:
    need("git")
    run(mount, folder, GIT)


def test_a_virtual_environment(mount: DaemonProcess, folder: Path) -> None:
    """A wheel of our own goes into a virtual environment in the mount with pip."""
    package = folder.parent.parent.parent / "wheel"
    (package / "tiny").mkdir(parents=True, exist_ok=True)
    (package / "tiny" / "__init__.py").write_text("ANSWER = 42\n")
    info = package / "tiny-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (info / "WHEEL").write_text(
        "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    (info / "RECORD").write_text(
        "tiny/__init__.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\n"
        "tiny-1.0.dist-info/RECORD,,\n"
    )
    wheel = shutil.make_archive(str(package.parent / "tiny-1.0-py3-none-any"), "zip", package)
    shutil.move(wheel, package.parent / "tiny-1.0-py3-none-any.whl")
    script = f"""
{sys.executable} -m venv --without-pip venv
{sys.executable} -m pip --python venv/bin/python install -q --no-index --no-cache-dir \
    --disable-pip-version-check {package.parent}/tiny-1.0-py3-none-any.whl
test "$(venv/bin/python -c 'import tiny; print(tiny.ANSWER, tiny.__file__)')" = \
    "42 $PWD/$(cd venv/lib/*/site-packages && pwd | sed "s,^$PWD/,,")/tiny/__init__.py" ||
    venv/bin/python -c 'import tiny; assert tiny.ANSWER == 42'
{sys.executable} -m pip --python venv/bin/python uninstall -q -y tiny
! venv/bin/python -c 'import tiny' 2> /dev/null
"""
    run(mount, folder, script)
