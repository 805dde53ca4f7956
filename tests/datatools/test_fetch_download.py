"""Fetching from a URL: a server that breaks off, forgets ranges, changes its file, or has none."""

import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cxr.errors import DataError, UsageError
from datatools.fetch import __main__ as command
from datatools.fetch import download
from tests.datatools.fetch_files import FILES, SECRET, lying, packed


class Server(ThreadingHTTPServer):
    """Serves `content` under any path; `drops`: after how many bytes each of the next answers ends."""

    content, tag, date, kind = b"", '"one"', None, "application/zip"
    ranges, heeds = True, True  # Range; If-Range
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.drops, self.status, self.targets = [], [], [], []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        server.asked.append({"path": self.path, "range": self.headers.get("Range"), "if": self.headers.get("If-Range")})
        if server.status:
            return self.send_error(server.status.pop(0))
        if server.targets:
            self.send_response(302)
            self.send_header("Location", server.targets.pop(0))
            return self.end_headers()
        wanted = self.headers.get("Range", "") if server.ranges else ""
        same = not server.heeds or self.headers.get("If-Range") in (server.tag, server.date)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same else 0
        self.send_response(206 if start else 200)
        for name, value in {"ETag": server.tag, "Last-Modified": server.date, "Content-Type": server.kind}.items():
            if value:
                self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        rest = server.content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.drops.pop(0)] if server.drops else rest)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with Server() as found:
        found.content = packed(FILES)
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def into(tmp_path) -> Path:
    return tmp_path / "my data"


def test_a_zip_from_a_url_is_unpacked_and_its_archive_forgotten(server, into, capfd):
    command.fetch_source(server.url(f"siim.zip?token={SECRET}"), into)
    assert lying(into) == FILES
    assert not list((into / ".fetch").rglob("*.zip*"))
    said = "".join(capfd.readouterr())
    assert SECRET not in said
    assert "1 DICOM images" in said
    assert "missing: the DICOM files of 1 images with mask rows" in said
    assert not [path for path in into.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_again_it_is_up_to_date_and_what_was_deleted_comes_back(server, into, capfd):
    for times in (1, 1):
        command.fetch_source(server.url("siim.zip"), into)
        assert len(server.asked) == times
    assert "up to date, 2 files" in capfd.readouterr().out
    (into / "siim/train/a.dcm").unlink()
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into) == FILES


def test_a_dropped_connection_goes_on_where_it_stopped(server, into):
    server.drops = [100_000, 50_000]
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into) == FILES
    assert [asked["range"] for asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert {asked["if"] for asked in server.asked[1:]} == {'"one"'}


@pytest.mark.parametrize("change", [{"ranges": False}, {"tag": None}, {"tag": 'W/"weak"'}])
def test_without_ranges_or_what_tells_the_file_it_begins_anew(server, into, change):
    vars(server).update(change)
    server.drops = [100_000]
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into) == FILES


def test_the_date_serves_where_the_tag_is_weak(server, into):
    server.tag, server.date, server.drops = 'W/"weak"', "Mon, 01 Jun 2020 00:00:00 GMT", [100_000]
    command.fetch_source(server.url("siim.zip"), into)
    assert server.asked[1] | {"path": ""} == {"path": "", "range": "bytes=100000-", "if": server.date}


@pytest.fixture
def partial(server, into, monkeypatch) -> Path:
    """What a run leaves whose connection broke for good."""
    server.drops = [100_000]
    with monkeypatch.context() as once:
        once.setattr(download, "MAX_ATTEMPTS", 1)
        with pytest.raises(UsageError, match=r"ended after 100000 of 300\d+ bytes.*\.part; run the same again"):
            command.fetch_source(server.url("siim.zip"), into)
    (part,) = (into / ".fetch").rglob("siim.zip.part")
    assert part.read_bytes() == server.content[:100_000]
    return part


def test_a_later_run_goes_on_with_a_partial_download(server, into, partial):
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into) == FILES
    assert server.asked[-1]["range"] == "bytes=100000-"


def test_a_part_that_is_the_whole_file_needs_no_server(server, into, partial):
    partial.write_bytes(server.content)  # killed just before it was renamed
    server.asked.clear()
    command.fetch_source(server.url("siim.zip"), into)
    assert (lying(into), server.asked) == (FILES, [])


@pytest.mark.parametrize("heeds", [True, False])
def test_but_not_with_one_of_another_version(server, into, partial, heeds):
    newer = FILES | {"siim/train/a.dcm": os.urandom(300_000)}
    server.content, server.tag, server.heeds = packed(newer), '"two"', heeds
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into) == newer


def test_nor_with_one_longer_than_the_file_has_become(server, into, partial):
    server.content, server.status = packed(FILES | {"siim/train/a.dcm": b"1"}), [416]
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into)["siim/train/a.dcm"] == b"1"


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, into):
    server.status = [503, 429]
    command.fetch_source(server.url("siim.zip"), into)
    server.status, server.asked = [404], []
    with pytest.raises(UsageError, match=r"other\.zip from 127\.0\.0\.1: the server answers 404") as caught:
        command.fetch_source(server.url(f"other.zip?token={SECRET}"), into)
    assert SECRET not in str(caught.value)
    assert len(server.asked) == 1


def test_a_redirect_is_followed(server, into):
    server.targets = ["/elsewhere?signed=1", server.url("again")]
    command.fetch_source(server.url("siim.zip"), into)
    assert lying(into) == FILES


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/f.zip", "file:///etc/hosts", "gopher://h/s3cret", "data:,s3cret"])
def test_a_redirect_to_another_protocol_is_not(server, into, target):
    server.targets = [target]
    scheme = target.partition(":")[0]
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:\d+ answers with a redirect from http to {scheme},") as caught:
        command.fetch_source(server.url("siim.zip"), into)
    assert SECRET not in str(caught.value)
    assert lying(into) == {}


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_nor_one_that_gives_up_encryption(code):
    request = download.urllib.request.Request("https://h/f.zip?s3cret")
    handle = getattr(download._RedirectHandler(), f"http_error_{code}")
    with pytest.raises(UsageError, match="h answers with a redirect from https to http, ") as caught:
        handle(request, io.BytesIO(), code, "", {"location": "http://h/f.zip?s3cret"})
    assert SECRET not in str(caught.value)


def test_nor_one_to_no_address():
    request = download.urllib.request.Request("https://h/f.zip")
    with pytest.raises(UsageError, match="h answers with a redirect from https to a malformed address"):
        download._RedirectHandler().http_error_302(request, io.BytesIO(), 302, "", {"location": "http://[bad"})


def test_no_connection_ends_with_words(into, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with pytest.raises(UsageError, match=r"siim\.zip from 127\.0\.0\.1: no connection .* 6 times in a row"):
        command.fetch_source("http://127.0.0.1:9/siim.zip", into)


def test_a_web_page_is_no_data(server, into):
    server.kind, server.content = "text/html; charset=utf-8", b"<html>sign in</html>"
    with pytest.raises(DataError, match="sent a web page"):
        command.fetch_source(server.url("siim.zip"), into)


def test_a_single_table_and_then_the_images(server, into):
    server.content, server.kind = FILES["siim/train-rle.csv"], "text/csv"
    with pytest.raises(DataError, match=r"holds no DICOM file .* yet: fetch the images, too"):
        command.fetch_source(server.url("train-rle.csv"), into)
    server.content = packed({"a.dcm": b"1"})
    command.fetch_source(server.url("images"), into)
    assert set(lying(into)) == {"train-rle.csv", "a.dcm"}


@pytest.mark.parametrize(("given", "expected"), [
    ("https://www.dropbox.com/s/ab/f.zip?dl=0", "https://www.dropbox.com/s/ab/f.zip?dl=1"),
    ("https://dropbox.com/scl/fi/ab/f.zip?rlkey=k&dl=0#x", "https://dropbox.com/scl/fi/ab/f.zip?rlkey=k&dl=1"),
    ("https://www.dropbox.com/s/ab/f.zip", "https://www.dropbox.com/s/ab/f.zip?dl=1"),
    ("http://notdropbox.com/é.zip?dl=0", "http://notdropbox.com/%C3%A9.zip?dl=0"),
])  # fmt: skip
def test_the_link_of_a_dropbox_page_becomes_its_file(given, expected):
    assert download.resolve_direct_url(given) == expected


@pytest.mark.parametrize(
    "url", ["ftp://h/f.zip", "file:///etc/pw", "http:///f", "http://me:pw@h/f", "http://h/a b", "http://h:pw/f"]
)
def test_what_is_no_plain_url_is_refused_before_anything(url, into):
    with pytest.raises(UsageError) as caught:
        command.fetch_source(url, into)
    assert "pw" not in str(caught.value)
    assert not into.exists()


@pytest.mark.parametrize(("path", "name"), [
    ("f%20g.zip?x=/y.zip", "f g.zip"), ("..%2F..%2Fevil.csv", "_.._evil.csv"), ("", "download"), ("..", "download"),
])  # fmt: skip
def test_the_file_name_of_a_url_is_a_name(path, name):
    assert download.derive_file_name(f"http://h/{path}") == name
