"""A file from a URL: goes on where it stopped, begins anew where the file behind the URL has changed."""

import errno
import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse, responses
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urljoin, urlsplit, urlunsplit

from cxr.errors import DataError, UsageError
from cxr.fetch.place import CHUNK, require_space
from cxr.files import read_json, write_json
from cxr.progress import Line

TIMEOUT = 60  # seconds without a byte
TRIES = 6  # in a row without a byte more
PAUSE = 1.0  # seconds before the second try; doubled before each further one
OWN_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others in a while


class Dropped(Exception):
    """The connection ended before the file did."""


def direct(url: str) -> str:
    """The URL of the file itself: a Dropbox link's page (dl=0) becomes its download (dl=1).

    Raises UsageError where it is no http(s) URL, or holds a user's name.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # looks whether the port is a number
    except ValueError:
        host = ""
    if not host.isascii() or not host or parts.scheme not in ("http", "https") or re.search(r"[\s\x00-\x1f]", url):
        raise UsageError("this is no URL: expected https://<host>/<file>, blanks written as %20")
    if parts.username is not None:
        raise UsageError(f"the URL of a file on {host} holds a user's name; give a link that needs none")
    if host == "dropbox.com" or host.endswith(".dropbox.com"):
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "dl"]
        parts = parts._replace(query=urlencode([*query, ("dl", "1")]))
    return "".join(letter if letter.isascii() else quote(letter) for letter in urlunsplit(parts._replace(fragment="")))


def name_of(url: str) -> str:
    """The last part of a URL's path, fit for a file's name."""
    last = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^\w. -]", "_", last)[-100:].lstrip(".") or "download"


def download(url: str, folder: Path) -> Path:
    """Bring the file at a (direct) URL into `folder`; `<name>.part` until it is whole.

    Raises UsageError where the server refuses or cannot be reached. No message holds more of the URL than host and
    name: queries and paths can be keys.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name_of(url)
    fetching = _Fetch(url, target)
    if fetching.is_whole():
        return target
    target.unlink(missing_ok=True)
    most, failures = fetching.have, 0
    while True:
        try:
            fetching.attempt()
            return target
        except (Dropped, OSError, HTTPException) as error:
            _raise_if_final(error, fetching.label)
            failures = 1 if fetching.have > most else failures + 1
            most = max(most, fetching.have)
            if failures >= TRIES:
                raise UsageError(_gave_up(fetching, error)) from None
            pause = PAUSE * 2 ** (failures - 1)
            fetching.line.end(f"{_reason(error)}; trying again in {pause:.0f} s")
            time.sleep(pause)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes where a server points to, by http and https alone, and never from the latter to the former."""

    def http_error_302(self, request, response, code, message, headers):
        try:
            target = urljoin(request.full_url, headers.get("location") or headers.get("uri") or "")
            scheme = urlsplit(target).scheme
        except ValueError:
            scheme = "a malformed address"
        if scheme not in ("http", "https") or (request.type == "https" and scheme == "http"):
            response.close()
            raise UsageError(
                f"{request.host} answers with a redirect from {request.type} to {scheme}, which is not followed; "
                "give the file's own https link"
            )
        return super().http_error_302(request, response, code, message, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Fetch:
    """One file on its way: what is there of it, and by what its next part is recognised as the same file's."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.part, self.note = (target.with_name(target.name + end) for end in (".part", ".part.json"))
        self.label = f"{target.name} from {urlsplit(url).hostname}"
        self.line = Line(self.label)
        self.key = hashlib.sha256(url.encode()).hexdigest()
        known = read_json(self.note) or {}
        self.known = known if known.get("url") == self.key else {}

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def is_whole(self) -> bool:
        """Whether an earlier run brought all of it."""
        return self.target.is_file() and self.target.stat().st_size == self.known.get("whole")

    def attempt(self) -> None:
        """One connection, unless all is there; Dropped where it ends too early."""
        if not self.have or self.have != self.known.get("total"):
            self._connect()
        write_json(self.note, self.known | {"whole": self.have})
        os.replace(self.part, self.target)

    def _connect(self) -> None:
        request = urllib.request.Request(self.url, headers=self._headers())
        try:
            response = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            self._begin_anew()  # the file has become shorter than what is there of it
            raise Dropped("the file has changed") from None
        with response:
            goes_on = self._goes_on(response)
            self._note(response, goes_on)
            self._receive(response, "ab" if goes_on else "wb")

    def _headers(self) -> dict[str, str]:
        """Ask for the rest alone where the server can tell that the file is still the same (RFC 9110, 13.1.5)."""
        headers = {"User-Agent": "cxr.fetch", "Accept-Encoding": "identity"}
        if self.have and self.known.get("validator"):
            headers |= {"Range": f"bytes={self.have}-", "If-Range": self.known["validator"]}
        return headers

    def _goes_on(self, response: HTTPResponse) -> bool:
        """Whether the answer is just the rest of what is there."""
        if response.status != 206:
            return False
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if found and self.known and int(found[1]) == self.have and _same_file(response, self.known, int(found[2])):
            return True
        self._begin_anew()
        raise Dropped("the server sent another part than it was asked for")

    def _begin_anew(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.known = {}

    def _note(self, response: HTTPResponse, goes_on: bool) -> None:
        """Remember by what the file is known; look whether it is a file, and whether there is room."""
        if response.headers.get_content_type() == "text/html":
            raise DataError(f"{self.label}: the server sent a web page, no file; is the link public and direct?")
        length = response.headers.get("Content-Length", "")
        rest = int(length) if length.isdigit() else None
        require_space(self.target.parent, rest or 0)
        if not goes_on:
            self._begin_anew()
            self.known = {"url": self.key, "validator": _validator(response), "total": rest}
            write_json(self.note, self.known)

    def _receive(self, response: HTTPResponse, mode: str) -> None:
        total = self.known["total"]
        with open(self.part, mode) as handle:
            while chunk := response.read(CHUNK):
                handle.write(chunk)
                self.line.say(f"{handle.tell() / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB"))
        if total is not None and self.have != total:
            raise Dropped(f"the connection ended after {self.have} of {total} bytes")
        self.line.end(f"{self.have / 1e6:.1f} MB")


def _validator(response: HTTPResponse) -> str | None:
    """What If-Range takes: a strong ETag, else the date; none where a rest could be another file's."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _same_file(response: HTTPResponse, known: dict, total: int) -> bool:
    """Some servers do not know If-Range: their answer's own validator and length must be those noted."""
    return _validator(response) in (None, known["validator"]) and known["total"] in (None, total)


def _raise_if_final(error: Exception, label: str) -> None:
    """Go on with what may pass; end with what will not."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in BUSY:
            answer = f"{error.code} {responses.get(error.code, '')}".rstrip()  # not error.reason: it may hold a URL
            raise UsageError(f"{label}: the server answers {answer}; is the link right, and public?") from None
    elif isinstance(error, OSError) and (error.errno in OWN_DISK or error.filename):
        raise error  # of our own disk, not of the connection


def _gave_up(fetching: _Fetch, error: Exception) -> str:
    kept = f"{fetching.have / 1e6:.1f} MB are kept in {fetching.part}; " if fetching.have else ""
    return f"{fetching.label}: {_reason(error)}, {TRIES} times in a row; {kept}run the same again to go on"


def _reason(error: Exception) -> str:
    """Why an attempt failed, without the URL."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({getattr(error.reason, 'strerror', None) or type(error.reason).__name__})"
    return str(error) if isinstance(error, Dropped) else f"the connection was lost ({type(error).__name__})"
