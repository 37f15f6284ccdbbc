"""Who may do what, and whose the object is afterwards: the table that both stores must show.

alice is uid 1001, bob 1002, admin is root's and the mount's own identity. Each cell has a folder
and a file of alice's to itself.

=========  ======  ======================================  ====================================
column     actor   modes of alice's folder and file        S3's policy for the actor
=========  ======  ======================================  ====================================
own        alice   0755, 0644                              lets her
other's    bob     0755, 0644: he may read                 lets him
shared     bob     0777, 0666: he may do what writers may  lets him
denied     bob     0777, 0666                              an explicit Deny of the folder's keys
admin      root    0755, 0644                              lets it
=========  ======  ======================================  ====================================

A cell has the errno of a call that is refused, at its first step and with nothing changed; or else
the S3 owner of what the call was about, whose uid ``stat`` then shows: ``gone`` for what is no
more. The rules behind it:

- Making a thing makes it the actor's, who signs for it.
- Changing a thing leaves it whose it is, whoever changed it: bob's bytes in alice's file are in
  alice's file. He signs the upload, and a copy in her name gives it back to her.
- What needs ownership (chmod, chown) is POSIX's to say in every mode, and no policy gives it.
- ``access=posix``: S3 is not asked about reading. What changes something is signed as the actor
  all the same, so a Deny is felt there.
- ``access=s3``: modes refuse nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

BOTH = """
            own      other's  shared   denied   admin
create      alice    EACCES   bob      EACCES   admin
read        alice    alice    alice    EACCES   alice
overwrite   alice    EACCES   alice    EACCES   alice
append      alice    EACCES   alice    EACCES   alice
rename      alice    EACCES   alice    EACCES   alice
unlink      gone     EACCES   gone     EACCES   gone
chmod       alice    EPERM    EPERM    EPERM    alice
chown       EPERM    EPERM    EPERM    EPERM    bob
mkdir       alice    EACCES   bob      EACCES   admin
readdir     alice    alice    alice    EACCES   alice
"""

POSIX = """
            own      other's  shared   denied   admin
create      alice    EACCES   bob      EACCES   admin
read        alice    alice    alice    alice    alice
overwrite   alice    EACCES   alice    EACCES   alice
append      alice    EACCES   alice    EACCES   alice
rename      alice    EACCES   alice    EACCES   alice
unlink      gone     EACCES   gone     EACCES   gone
chmod       alice    EPERM    EPERM    EPERM    alice
chown       EPERM    EPERM    EPERM    EPERM    bob
mkdir       alice    EACCES   bob      EACCES   admin
readdir     alice    alice    alice    alice    alice
"""

S3 = """
            own      other's  shared   denied   admin
create      alice    bob      bob      EACCES   admin
read        alice    alice    alice    EACCES   alice
overwrite   alice    alice    alice    EACCES   alice
append      alice    alice    alice    EACCES   alice
rename      alice    alice    alice    EACCES   alice
unlink      gone     gone     gone     EACCES   gone
chmod       alice    EPERM    EPERM    EPERM    alice
chown       EPERM    EPERM    EPERM    EPERM    bob
mkdir       alice    bob      bob      EACCES   admin
readdir     alice    alice    alice    EACCES   alice
"""

# Whose the object is after a change that is allowed, for a file and for a folder of alice's that
# others may write to. bob may not do what needs ownership.
OWNER_AFTER = """
               alice    bob      admin
overwrite      alice    alice    alice
append         alice    alice    alice
truncate       alice    alice    alice
part-copy      alice    alice    alice
chmod          alice    EPERM    alice
utimens        alice    EPERM    alice
touch          alice    alice    alice
setxattr       alice    alice    alice
rename         alice    alice    alice
move           alice    alice    alice
chown-mapped   EPERM    EPERM    bob
chown-unmapped EPERM    EPERM    admin
"""
OF_FILES_ALONE = frozenset({"overwrite", "append", "truncate", "part-copy"})


@dataclass(frozen=True, slots=True)
class Cell:
    """What ``operation`` comes to in a column of a table."""

    table: str
    operation: str
    column: str
    expected: str

    @property
    def name(self) -> str:
        """A word for file names and test ids."""
        return f"{self.column.replace(chr(39), '')}-{self.table}-{self.operation}"


def cells(table: str, text: str) -> list[Cell]:
    """The cells of a table, row by row."""
    head, *rows = text.strip().splitlines()
    columns = head.split()
    return [
        Cell(table, operation, column, expected)
        for operation, *values in (row.split() for row in rows)
        for column, expected in zip(columns, values, strict=True)
    ]


ACCESS = [
    cell
    for name, text in (("both", BOTH), ("posix", POSIX), ("s3", S3))
    for cell in cells(name, text)
]
