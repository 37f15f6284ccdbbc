"""Random operations on nasty keys, against a dict."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import Condition
from tests.store.backend_kit import BUCKET, NASTY, backend_at, facts_of, md5, put, read

# Few segments, so that keys get in each other's way; and all the odd ones.
_SEGMENTS = ["a", "b", "", ".", "..", ".~s3~oa", "a!", "x" * 256, "é\0"]
KEYS = st.one_of(
    st.lists(st.sampled_from(_SEGMENTS), min_size=1, max_size=4).map("/".join).filter(bool),
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)
BODIES = st.sampled_from([b"", b"x", b"other", b"y" * 5000])


class Model(RuleBasedStateMachine):
    """The backend and what it ought to hold: bodies and metadata by key."""

    @initialize(xattrs=st.booleans())
    def start(self, xattrs: bool) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="s3posixfs-model-"))
        self.xattrs = xattrs
        self.backend: DirectoryBackend = backend_at(self.root, xattrs=xattrs)
        self.model: dict[str, tuple[bytes, str]] = {}

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            self.backend.close()
            shutil.rmtree(self.root)

    @rule(key=KEYS, body=BODIES, note=st.sampled_from(["", "n", "n" * 5000]))
    def put(self, key: str, body: bytes, note: str) -> None:
        put(self.backend, key, body, facts_of(body, metadata={"note": note}))
        self.model[key] = (body, note)

    @rule(key=KEYS, body=BODIES, exists=st.booleans())
    def put_conditionally(self, key: str, body: bytes, exists: bool) -> None:
        condition = Condition(if_match="*") if exists else Condition(if_none_match=True)
        try:
            put(self.backend, key, body, facts_of(body, metadata={"note": ""}), condition)
        except S3Error as error:
            assert error.code == ("NoSuchKey" if exists else "PreconditionFailed")  # noqa: PT017
            assert (key in self.model) is not exists
        else:
            assert (key in self.model) is exists
            self.model[key] = (body, "")

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        assert self.backend.delete(BUCKET, key)
        del self.model[key]

    @rule(key=KEYS)
    def delete_any(self, key: str) -> None:
        assert self.backend.delete(BUCKET, key) is (self.model.pop(key, None) is not None)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), key=KEYS, no_replace=st.booleans())
    def rename(self, data: st.DataObject, key: str, no_replace: bool) -> None:
        source = data.draw(st.sampled_from(sorted(self.model)))
        try:
            self.backend.rename(BUCKET, source, key, no_replace=no_replace)
        except S3Error as error:
            assert error.code == "PreconditionFailed"  # noqa: PT017
            assert no_replace
            assert key in self.model
        else:
            assert not (no_replace and key in self.model)
            self.model[key] = self.model.pop(source)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), note=st.sampled_from(["", "m", "m" * 5000]))
    def set_metadata(self, data: st.DataObject, note: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.backend.set_metadata(BUCKET, key, facts_of(metadata={"note": note}))
        self.model[key] = (self.model[key][0], note)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), key=KEYS)
    def copy(self, data: st.DataObject, key: str) -> None:
        source = data.draw(st.sampled_from(sorted(self.model)))
        with self.backend.open_object(BUCKET, source) as opened:
            self.backend.copy(opened, BUCKET, key, opened.record.facts())
        self.model[key] = self.model[source]

    @rule()
    def restart(self) -> None:
        self.backend.close()
        self.backend = backend_at(self.root, xattrs=self.xattrs)

    @rule(prefix=KEYS, after=KEYS, size=st.integers(1, 5))
    def list_a_page(self, prefix: str, after: str, size: int) -> None:
        page = self.backend.list(BUCKET, prefix, "", after, size)
        wanted = [
            key
            for key in sorted(self.model, key=str.encode)
            if key.startswith(prefix) and key.encode() > after.encode()
        ]
        assert [record.key for record in page.objects] == wanted[:size]
        assert page.truncated is (len(wanted) > size)

    @invariant()
    def holds_what_it_ought_to(self) -> None:
        if not hasattr(self, "backend"):
            return
        page = self.backend.list(BUCKET, max_keys=10_000)
        assert [r.key for r in page.objects] == sorted(self.model, key=str.encode)
        for record in page.objects:
            body, note = self.model[record.key]
            assert (record.size, record.etag) == (len(body), md5(body))
            assert record.metadata == {"note": note}
            assert read(self.backend, record.key) == body
        firsts = {key.partition("/")[0] + "/" for key in self.model if "/" in key}
        rolled = self.backend.list(BUCKET, "", "/", "", 10_000)
        assert set(rolled.prefixes) == firsts
        if not self.model:
            assert list((self.root / BUCKET).iterdir()) == []


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
