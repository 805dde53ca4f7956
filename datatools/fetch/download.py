"""Download a file from a URL: an interrupted download is resumed, unless the file behind the URL has changed."""

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
from cxr.files import read_json, write_json
from cxr.progress import ProgressLine
from datatools.fetch.data_folder import CHUNK, require_space

TIMEOUT = 60  # seconds without a byte
MAX_ATTEMPTS = 6  # in a row that bring no further byte
PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
BUSY_STATUS_CODES = (408, 425, 429, 500, 502, 503, 504)  # a later attempt may succeed


class ConnectionDropped(Exception):
    """The connection ended before the file was complete."""


def resolve_direct_url(url: str) -> str:
    """The URL of the file itself: a Dropbox link's page (dl=0) becomes its download (dl=1).

    Raises UsageError where it is no http(s) URL, or contains a user name.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # .port raises ValueError where it is no number
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


def derive_file_name(url: str) -> str:
    """The last part of a URL's path, as a valid file name."""
    last_part = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^\w. -]", "_", last_part)[-100:].lstrip(".") or "download"


def download_file(url: str, folder: Path) -> Path:
    """Download the file at a (direct) URL into `folder`; it is called `<name>.part` until it is complete.

    Returns its path. Raises UsageError where the server refuses or cannot be reached, DataError where it sends a web
    page. Messages contain only the host and file name of the URL, because its query or path may be a secret.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / derive_file_name(url)
    transfer = _Transfer(url, target)
    if transfer.is_whole():
        return target
    target.unlink(missing_ok=True)
    most_bytes, failures = transfer.received_bytes, 0
    while True:
        try:
            transfer.attempt_download()
            return target
        except (ConnectionDropped, OSError, HTTPException) as error:
            _raise_if_final(error, transfer.label)
            failures = 1 if transfer.received_bytes > most_bytes else failures + 1
            most_bytes = max(most_bytes, transfer.received_bytes)
            if failures >= MAX_ATTEMPTS:
                raise UsageError(_describe_failure(transfer, error)) from None
            pause = PAUSE * 2 ** (failures - 1)
            transfer.line.print_message(f"{_explain_error(error)}; trying again in {pause:.0f} s")
            time.sleep(pause)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def http_error_302(self, request, response, code, message, headers):
        """urllib's handler of a redirect (request, response, its code, message and headers); UsageError if refused."""
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


class _Transfer:
    """One download: the part that has arrived, and a record by which the rest is recognised as of the same file."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.part_path, self.note_path = (target.with_name(target.name + end) for end in (".part", ".part.json"))
        self.label = f"{target.name} from {urlsplit(url).hostname}"
        self.line = ProgressLine(self.label)
        self.url_hash = hashlib.sha256(url.encode()).hexdigest()
        record = read_json(self.note_path) or {}
        self.record = record if record.get("url") == self.url_hash else {}

    @property
    def received_bytes(self) -> int:
        """Size of the part that has arrived."""
        return self.part_path.stat().st_size if self.part_path.is_file() else 0

    def is_whole(self) -> bool:
        """Whether an earlier run downloaded the whole file."""
        return self.target.is_file() and self.target.stat().st_size == self.record.get("whole")

    def attempt_download(self) -> None:
        """Download the rest over one connection; ConnectionDropped where it ends too early."""
        if not self.received_bytes or self.received_bytes != self.record.get("total"):
            self._open_connection()
        write_json(self.note_path, self.record | {"whole": self.received_bytes})
        os.replace(self.part_path, self.target)

    def _open_connection(self) -> None:
        request = urllib.request.Request(self.url, headers=self._build_headers())
        try:
            response = urllib.request.build_opener(_RedirectHandler).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            self._discard_part()  # the file is now shorter than the part that has arrived
            raise ConnectionDropped("the file has changed") from None
        with response:
            is_continuation = self._is_continuation(response)
            self._record_response(response, is_continuation)
            self._receive_body(response, "ab" if is_continuation else "wb")

    def _build_headers(self) -> dict[str, str]:
        """Ask for the rest only, if the server can tell that the file is unchanged (If-Range: RFC 9110, 13.1.5)."""
        headers = {"User-Agent": "datatools.fetch", "Accept-Encoding": "identity"}
        if self.received_bytes and self.record.get("validator"):
            headers |= {"Range": f"bytes={self.received_bytes}-", "If-Range": self.record["validator"]}
        return headers

    def _is_continuation(self, response: HTTPResponse) -> bool:
        """Whether the response is exactly the missing rest; ConnectionDropped where it is another part."""
        if response.status != 206:
            return False
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        is_rest = content_range and self.record and int(content_range[1]) == self.received_bytes
        if is_rest and _is_same_file(response, self.record, int(content_range[2])):
            return True
        self._discard_part()
        raise ConnectionDropped("the server sent another part than it was asked for")

    def _discard_part(self) -> None:
        self.part_path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)
        self.record = {}

    def _record_response(self, response: HTTPResponse, is_continuation: bool) -> None:
        """Store what identifies the file; DataError for a web page, UsageError where the disk is too full."""
        if response.headers.get_content_type() == "text/html":
            raise DataError(f"{self.label}: the server sent a web page, no file; is the link public and direct?")
        length = response.headers.get("Content-Length", "")
        remaining_bytes = int(length) if length.isdigit() else None
        require_space(self.target.parent, remaining_bytes or 0)
        if not is_continuation:
            self._discard_part()
            self.record = {"url": self.url_hash, "validator": _get_validator(response), "total": remaining_bytes}
            write_json(self.note_path, self.record)

    def _receive_body(self, response: HTTPResponse, mode: str) -> None:
        total = self.record["total"]
        with open(self.part_path, mode) as handle:
            while chunk := response.read(CHUNK):
                handle.write(chunk)
                of_total = f" of {total / 1e6:.0f}" if total else ""
                self.line.show_progress(f"{handle.tell() / 1e6:.0f}{of_total} MB")
        if total is not None and self.received_bytes != total:
            raise ConnectionDropped(f"the connection ended after {self.received_bytes} of {total} bytes")
        self.line.print_message(f"{self.received_bytes / 1e6:.1f} MB")


def _get_validator(response: HTTPResponse) -> str | None:
    """What If-Range takes: a strong ETag, else the date; None where the server sends neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _is_same_file(response: HTTPResponse, record: dict, total: int) -> bool:
    """Whether validator and length of a response are the recorded ones; needed as some servers ignore If-Range."""
    return _get_validator(response) in (None, record["validator"]) and record["total"] in (None, total)


def _raise_if_final(error: Exception, label: str) -> None:
    """Raise for an error that another attempt would not help; return for one that may pass."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in BUSY_STATUS_CODES:
            answer = f"{error.code} {responses.get(error.code, '')}".rstrip()  # not error.reason: it may contain a URL
            raise UsageError(f"{label}: the server answers {answer}; is the link right, and public?") from None
    elif isinstance(error, OSError) and (error.errno in DISK_ERRORS or error.filename):
        raise error  # of our own disk, not of the connection


def _describe_failure(transfer: _Transfer, error: Exception) -> str:
    message = f"{transfer.label}: {_explain_error(error)}, {MAX_ATTEMPTS} times in a row; "
    if transfer.received_bytes:
        message += f"{transfer.received_bytes / 1e6:.1f} MB are kept in {transfer.part_path}; "
    return message + "run the same again to go on"


def _explain_error(error: Exception) -> str:
    """Why an attempt failed, without the URL."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({getattr(error.reason, 'strerror', None) or type(error.reason).__name__})"
    return str(error) if isinstance(error, ConnectionDropped) else f"the connection was lost ({type(error).__name__})"
