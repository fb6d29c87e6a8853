"""Pulling weights from a server on this machine that behaves as servers do."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from samrefine_export.errors import DownloadError
from samrefine_export.weights import Weights, weights_path
from samrefine_export.weights.download import Patience
from samrefine_export.weights.pull import pull
from samrefine_runtime.errors import OutputError, SettingsError, StorageError
from tests.weights_server import Published, serving

FAST = Patience(connect=2.0, read=0.3, retries=2, pause=0.001)


@pytest.fixture
def published() -> Iterator[Published]:
    content = np.random.default_rng(0).bytes(300_000)
    with serving(Published(content)) as found:
        yield found


def weights(published: Published, **more: object) -> Weights:
    """The weights at the server, with everything known of them but for what is given."""
    known = {"size": len(published.content), "sha256": published.sha256}
    return Weights("mine", published.url, **{**known, **more})


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "mine").iterdir() if path.name != ".lock")


def begin(cache: Path, published: Published, content: bytes, **origin: str) -> None:
    """Leave what a transfer leaves that was killed."""
    (cache / "mine").mkdir(parents=True)
    (cache / "mine" / "model.pth.part").write_bytes(content)
    known = {"url": published.url, "validator": published.etag or "", **origin}
    (cache / "mine" / "model.pth.part.json").write_text(json.dumps(known))


def test_whole_files(cache: Path, published: Published) -> None:
    steps: list[tuple[int, int]] = []
    path = pull(weights(published), progress=lambda *step: steps.append(step))
    assert path == weights_path(weights(published)) == cache / "mine" / "model.pth"
    assert path.read_bytes() == published.content and files(cache) == ["model.pth"]
    assert steps[-1] == (300_000, 300_000) and steps == sorted(steps) and len(steps) > 3
    # Once here they are only compared
    assert pull(weights(published)) == path and len(published.requests) == 1


@pytest.mark.parametrize(
    "known", [{"sha256": None}, {"size": None}, {"size": None, "sha256": None}]
)
@pytest.mark.parametrize("has_length", [True, False])
def test_what_is_not_known_is_not_compared(
    known: dict[str, None], has_length: bool, published: Published
) -> None:
    published.has_length = has_length
    assert pull(weights(published, **known)).read_bytes() == published.content


def test_the_first_digits_of_a_sha256(published: Published) -> None:
    digits = published.sha256[:8]
    assert pull(weights(published, sha256=digits)).read_bytes() == published.content
    with pytest.raises(DownloadError, match="expected 00000000"):
        pull(weights(published, sha256="0" * 8), patience=FAST)


def test_cut_transfers_go_on(cache: Path, published: Published) -> None:
    published.cuts = [100_000, 0, 50_000, 0]
    path = pull(weights(published), patience=FAST)
    assert path.read_bytes() == published.content and files(cache) == ["model.pth"]
    # Bytes that come start the count of failures anew
    expected = [None, *2 * ["bytes=100000-"], *2 * ["bytes=150000-"]]
    assert published.ranges == expected
    assert published.requests[1]["if-range"] == '"first"'


def test_cut_transfers_end_at_last_and_go_on_with_the_next(
    cache: Path, published: Published
) -> None:
    published.cuts = [100_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"no answer from http.*IncompleteRead"):
        pull(weights(published), patience=FAST)
    assert files(cache) == ["model.pth.part", "model.pth.part.json"]
    assert pull(weights(published)).read_bytes() == published.content
    assert published.ranges[-1] == "bytes=100000-"


def test_silent_servers_are_left(published: Published) -> None:
    published.stalls = [70_000, 10_000]
    assert pull(weights(published), patience=FAST).read_bytes() == published.content
    assert len(published.requests) == 3 and published.ranges[2] is not None
    published.stalls = [0, 0, 0, 0]
    other = weights(published, sha256=None, size=299_999)
    with pytest.raises(DownloadError, match="has 300000 bytes, expected 299999"):
        pull(other, patience=FAST)


def test_servers_without_ranges_begin_anew(published: Published) -> None:
    published.has_ranges, published.cuts = False, [100_000]
    assert pull(weights(published), patience=FAST).read_bytes() == published.content
    assert published.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_only_a_sha256_tells(
    etag: str | None, cache: Path, published: Published
) -> None:
    published.etag = etag
    begin(cache, published, published.content[:1000], validator="")
    assert pull(weights(published)).read_bytes() == published.content
    assert published.ranges == ["bytes=1000-"] and "if-range" not in published.requests[0]
    shutil.rmtree(cache)
    begin(cache, published, published.content[:1000], validator="")
    assert pull(weights(published, sha256=None)).read_bytes() == published.content
    assert published.ranges[1:] == [None]


def test_a_date_is_a_validator(published: Published) -> None:
    published.etag, published.date = None, "Wed, 05 Apr 2023 10:00:00 GMT"
    published.cuts = [1000]
    assert pull(weights(published), patience=FAST).read_bytes() == published.content
    assert published.requests[1]["if-range"] == published.date


def test_a_file_that_changed_in_between_begins_anew(cache: Path, published: Published) -> None:
    begin(cache, published, b"old" * 1000, validator='"older"')
    known = weights(published, sha256=None)
    assert pull(known).read_bytes() == published.content
    assert published.ranges == ["bytes=3000-"]


def test_a_part_of_another_version_is_fetched_once_more(cache: Path, published: Published) -> None:
    """The server says that it is the same file; the sha256 says that it is not."""
    begin(cache, published, b"old" * 1000)
    assert pull(weights(published)).read_bytes() == published.content
    assert published.ranges == ["bytes=3000-", None]


@pytest.mark.parametrize("origin", ['{"url": "http://127.0.0.1/other.pth"}', "{", "[]", None])
def test_a_part_of_another_place_is_not_used(
    origin: str | None, cache: Path, published: Published
) -> None:
    begin(cache, published, b"old")
    path = cache / "mine" / "model.pth.part.json"
    path.unlink() if origin is None else path.write_text(origin)
    assert pull(weights(published)).read_bytes() == published.content
    assert published.ranges == [None]


def test_a_part_that_is_whole_is_only_compared(cache: Path, published: Published) -> None:
    begin(cache, published, published.content)
    assert pull(weights(published)).read_bytes() == published.content
    assert not published.requests
    # Where the size is not known the server says that nothing is missing
    shutil.rmtree(cache)
    begin(cache, published, published.content)
    assert pull(weights(published, size=None)).read_bytes() == published.content
    assert published.ranges == ["bytes=300000-"]


@pytest.mark.parametrize("content_range", ["bytes 5-9/300000", "bytes */300000", "words", ""])
def test_another_part_than_was_asked_for(content_range: str, published: Published) -> None:
    published.content_range, published.cuts = content_range, [1000]
    assert pull(weights(published), patience=FAST).read_bytes() == published.content
    assert published.ranges == [None, "bytes=1000-", None]


def test_a_part_that_is_too_long_begins_anew(cache: Path, published: Published) -> None:
    begin(cache, published, bytes(300_001))
    assert pull(weights(published), patience=FAST).read_bytes() == published.content


def test_wrong_content_is_not_kept(cache: Path, published: Published) -> None:
    known = weights(published, sha256="0" * 64)
    with pytest.raises(DownloadError, match="damaged on the way, or another file is") as caught:
        pull(known)
    assert f"has sha256 {published.sha256}, expected {'0' * 64}" in str(caught.value)
    assert files(cache) == []


def test_another_size_is_refused_before_a_byte_is_moved(cache: Path, published: Published) -> None:
    known = weights(published, size=2_000_000)
    begin(cache, published, published.content[:1000], validator='"older"')
    with pytest.raises(DownloadError, match="has 300000 bytes, expected 2000000: another file"):
        pull(known)
    assert (cache / "mine" / "model.pth.part").read_bytes() == published.content[:1000]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_are_final(status: int, cache: Path, published: Published) -> None:
    published.statuses = [status]
    with pytest.raises(DownloadError) as caught:
        pull(weights(published), patience=FAST)
    message, path = str(caught.value), cache / "mine" / "model.pth"
    assert message.startswith(f"{published.url} answers {status} ")
    assert f"By hand: put {published.url} at {path}, then samrefine pull mine" in message
    assert len(published.requests) == 1 and files(cache) == []


def test_busy_servers_are_asked_again(published: Published) -> None:
    published.statuses = [503, 429]
    assert pull(weights(published), patience=FAST).read_bytes() == published.content
    shutil.rmtree(weights_path(weights(published)).parent)
    published.statuses = [500, 502, 503, 504]
    with pytest.raises(DownloadError, match="too many 503 error responses"):
        pull(weights(published), patience=FAST)


def test_redirects_are_followed_and_not_without_end(published: Published) -> None:
    published.redirects = ["/elsewhere/a.pth", "b.pth"]
    assert pull(weights(published)).read_bytes() == published.content
    paths = [request["path"] for request in published.requests]
    assert paths == ["/weights/model.pth", "/elsewhere/a.pth", "/elsewhere/b.pth"]
    shutil.rmtree(weights_path(weights(published)).parent)
    published.redirects = 20 * ["/again"]
    with pytest.raises(DownloadError, match="too many redirects"):
        pull(weights(published), patience=FAST)


def test_a_login_page_is_no_file(published: Published) -> None:
    published.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="answers with a web page, not a file"):
        pull(weights(published, size=None, sha256=None))


def test_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/model.pth"
    with pytest.raises(DownloadError, match=f"no answer from {url} .*refused"):
        pull(Weights("mine", url), patience=FAST)


def test_two_at_once_transfer_once(published: Published) -> None:
    published.seconds = 0.01
    barrier = threading.Barrier(2)
    steps: list[list[int]] = [[], []]

    def one(number: int) -> Path:
        barrier.wait()
        return pull(weights(published), progress=lambda done, _: steps[number].append(done))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second and first.read_bytes() == published.content
    assert len(published.requests) == 1
    assert all(steps)  # who waits sees the other's progress


def test_no_room_on_the_disk(
    cache: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(cache.parent.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=64 << 20))
        with pytest.raises(StorageError, match=r"MB free, model.pth needs 0 MB more: SAMREFINE_C"):
            pull(weights(published))
    assert pull(weights(published)).read_bytes() == published.content


def test_a_disk_that_fills_up(cache: Path, published: Published) -> None:
    (cache / "mine").mkdir(parents=True)
    part = cache / "mine" / "model.pth.part"
    part.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device") as caught:
        pull(weights(published))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    part.unlink()
    assert pull(weights(published)).read_bytes() == published.content


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAMREFINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"file/weights/mine/model.pth: cannot be written"):
        pull(weights(published))
    assert not published.requests


def test_files_put_there_by_hand(cache: Path, published: Published) -> None:
    (cache / "mine").mkdir(parents=True)
    (cache / "mine" / "model.pth").write_bytes(published.content)
    assert pull(weights(published)).read_bytes() == published.content
    assert not published.requests
    # What is wrong is replaced, but only once the right one has come
    (cache / "mine" / "model.pth").write_bytes(b"wrong")
    published.statuses = [404]
    with pytest.raises(DownloadError, match="answers 404"):
        pull(weights(published))
    assert (cache / "mine" / "model.pth").read_bytes() == b"wrong"
    assert pull(weights(published)).read_bytes() == published.content


def test_mirrors(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    known = weights(published, file="sam.pth")
    prefix = published.url.rpartition("/weights")[0]
    monkeypatch.setenv("SAMREFINE_MIRROR", f"{prefix}/copy/")
    pull(known)
    weights_path(known).unlink()
    pull(known, mirror=f"{prefix.replace('//', '//ann:secret@')}/other")
    paths = [request["path"] for request in published.requests]
    assert paths == ["/copy/mine/sam.pth", "/other/mine/sam.pth"]
    assert published.requests[1]["authorization"].startswith("Basic ")
    with pytest.raises(SettingsError, match="expected an http or https URL"):
        pull(known, mirror="/srv/weights")


def test_passwords_are_not_shown(published: Published) -> None:
    published.statuses = [403]
    url = published.url.replace("//", "//ann:secret@")
    with pytest.raises(DownloadError) as caught:
        pull(Weights("mine", url))
    assert "secret" not in str(caught.value) and published.url in str(caught.value)


def test_proxies_of_the_environment(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands for the proxy; the host exists nowhere else."""
    known = Weights("mine", "http://weights.invalid/model.pth", sha256=published.sha256)
    port = published.url.split(":")[2].split("/")[0]
    monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{port}")
    pull(known)
    assert published.requests[0]["path"] == known.url
    assert published.requests[0]["proxy-authorization"].startswith("Basic ")
    # Hosts that need none, and proxies that are none
    pull(weights(published), patience=FAST)
    weights_path(known).unlink()
    monkeypatch.setenv("no_proxy", "weights.invalid")
    with pytest.raises(DownloadError, match=r"Failed to resolve 'weights.invalid'"):
        pull(known, patience=FAST)
    monkeypatch.delenv("no_proxy")
    for proxy in ("socks5://127.0.0.1:1", "http://[", "127.0.0.1:1"):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(DownloadError, match=r"no answer from http://weights.invalid"):
            pull(known, patience=FAST)
