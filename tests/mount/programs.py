"""What programs do: scripts that run in an empty folder and fail where it comes out otherwise."""

from __future__ import annotations

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
changes() {{ rsync -aHAX --itemize-changes "$@"; }}
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

MEDIA = """
import os, struct
# A writer that does not know its sizes before the end: it goes back to fix the header.
frames = [os.urandom(1 + number * 37 % 9000) for number in range(300)]
with open("film", "wb") as film:
    film.write(b"FILM" + struct.pack("<QQ", 0, 0))
    index = []
    for frame in frames:
        index.append(film.tell())
        film.write(struct.pack("<I", len(frame)) + frame)
    place = film.tell()
    for offset in index:
        film.write(struct.pack("<Q", offset))
    film.seek(4)
    film.write(struct.pack("<QQ", place, len(frames)))
# A player: the header, the index at the end, and then here and there.
with open("film", "rb", buffering=0) as film:
    place, count = struct.unpack("<QQ", film.read(20)[4:])
    assert count == len(frames)
    film.seek(place)
    index = struct.unpack(f"<{count}Q", film.read(8 * count))
    for number in [0, count - 1, *(n * 7919 % count for n in range(400))]:
        film.seek(index[number])
        size, = struct.unpack("<I", film.read(4))
        assert film.read(size) == frames[number], number
# Cut to the first half in place, as editors of tags do.
with open("film", "r+b") as film:
    film.truncate(index[count // 2])
    film.seek(4)
    film.write(struct.pack("<QQ", 0, count // 2))
assert os.path.getsize("film") == index[count // 2]
"""

LOCKED = """
import os, subprocess, sys
program = '''
import fcntl, os, sys
for number in range(40):
    with open("ledger", "r+b") as ledger:
        if sys.argv[1] == "flock":
            fcntl.flock(ledger, fcntl.LOCK_EX)
        else:
            fcntl.lockf(ledger, fcntl.LOCK_EX)
        last = int(ledger.read().split()[-1])
        ledger.seek(0, os.SEEK_END)
        ledger.write(b"%d\\\\n" % (last + 1))
'''
for kind in ("flock", "fcntl"):
    open("ledger", "w").write("0\\n")
    writers = [subprocess.Popen([sys.executable, "-c", program, kind]) for _ in range(4)]
    assert all(writer.wait() == 0 for writer in writers)
    assert open("ledger").read().split() == [str(n) for n in range(161)], kind
# Records of several processes that all keep the file open.
program = '''
import fcntl, os, sys
log = os.open("records", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
for number in range(200):
    fcntl.flock(log, fcntl.LOCK_EX)
    os.write(log, b"%s:%d;" % (sys.argv[1].encode(), number))
    os.write(log, b"end\\\\n")
    fcntl.flock(log, fcntl.LOCK_UN)
'''
writers = [subprocess.Popen([sys.executable, "-c", program, str(n)]) for n in range(4)]
assert all(writer.wait() == 0 for writer in writers)
records = open("records").read().splitlines()
assert len(records) == len(set(records)) == 800
assert all(record.endswith(";end") for record in records)
"""

FOLLOWED = """
echo first > log
tail -n +1 -f -s 0.05 log > /tmp/followed-$$ &
tail=$!
for n in 1 2 3 4 5; do echo line $n >> log; done
exec 3>> log
echo held >&3
echo last >&3
n=0
until grep -q last /tmp/followed-$$; do
    sleep 0.1
    n=$((n + 1))
    test $n -lt 300
done
kill $tail
exec 3>&-
cmp log /tmp/followed-$$
rm /tmp/followed-$$
"""
