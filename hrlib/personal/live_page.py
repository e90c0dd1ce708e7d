"""A page in the browser for what a camera sees: `hrlib live` and `hrlib record` show pictures on it and read keys from it.

The page comes from Python's own web server, at this computer's own address alone. Its picture is a stream of JPEGs
(multipart/x-mixed-replace) and its words are a stream of events (text/event-stream), which every browser shows. So no window
toolkit is needed, and a computer without a screen can be looked at through `ssh -L`.
"""

import html
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8
from PIL import Image

WAIT_S = 2.0  # for the next picture, before a browser is given the last one again
BOUNDARY = b"--picture\r\n"
PANEL = (24, 28, 33)  # RGB of the page behind its pictures
HTML = """<!doctype html><html lang="en"><meta charset="utf-8"><title>TITLE</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
html { height: 100%; background: PANEL; color: #e8ebee; font: 18px/1.3 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
body { display: flex; flex-direction: column; box-sizing: border-box; min-height: 100%; margin: 0 }
header, footer { display: flex; flex-wrap: wrap; align-items: center; gap: .4em 1.2em; padding: .6em 1em }
header { min-height: 2em }
#text { flex: 1 1 12em }
#sure, #rate { font-variant-numeric: tabular-nums; white-space: nowrap }
#sure i { display: inline-block; width: 7em; height: .6em; margin: 0 .5em; border-radius: 1em; background: #3d464f }
#sure i b { display: block; height: 100%; border-radius: 1em; background: #56b4e9 }
#doubts { flex: 1 1 24em; font-size: .8em; color: #e69f00 }
#recording { color: #fff; background: #c5221f; border-radius: 1em; padding: .1em .8em; overflow-wrap: anywhere }
#picture { flex: 1 1 0; min-height: 12em; background: PANEL center / contain no-repeat; position: relative }
#picture img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain }
button { font: inherit; color: inherit; background: none; border: 1px solid #6b7783; border-radius: .4em; padding: .2em .7em }
button:hover, button:focus-visible { background: #313942; cursor: pointer } button:disabled { opacity: .35; cursor: default }
kbd { font: bold 1em ui-monospace, "DejaVu Sans Mono", monospace; color: #e69f00; margin-right: .4em }
[hidden] { display: none !important }
.ended #picture { opacity: .45 }
</style>
<body><header><span id="text" role="status">WAITING</span><span id="sure" hidden>confidence<i><b></b></i><span></span></span>
<span id="rate"></span></header>
<div id="picture"><img src="/stream" alt="ALT"></div>
<footer>KEYS<span id="recording" hidden></span><span id="doubts" role="note"></span></footer>
<script>
const part = (id) => document.getElementById(id), events = new EventSource("/words");
const press = (key) => fetch("/" + key, { method: "POST" }).catch(() => {});
addEventListener("keydown", (event) => {
  const plain = !(event.ctrlKey || event.metaKey || event.altKey || event.repeat);
  if (plain && document.querySelector(`button[value="${CSS.escape(event.key)}"]:enabled`)) press(event.key);
});
for (const button of document.querySelectorAll("button")) button.onclick = () => press(button.value);
events.onmessage = ({ data }) => {
  const { text, confidence, rate, recording, doubts } = JSON.parse(data);
  part("text").textContent = text;
  part("sure").hidden = confidence === null;
  part("sure").querySelector("b").style.width = `${100 * confidence}%`;
  part("sure").querySelector("span").textContent = (confidence ?? 0).toFixed(2);
  part("rate").textContent = rate ? `${rate.toFixed(1)} frames/s` : "";
  part("doubts").textContent = doubts;
  part("recording").hidden = !recording;
  part("recording").textContent = `\\u25cf ${recording}`;
};
events.onerror = () => {  // the program closes the stream when it ends
  events.close();
  document.body.className = "ended";
  part("text").textContent = "The program has ended.";
  for (const name of ["sure", "rate", "recording", "doubts"]) part(name).hidden = true;
  for (const button of document.querySelectorAll("button")) button.disabled = true;
};
</script></body></html>
"""
WAITING = (
    "Waiting for the first image; on its first start, the program is compiled for this computer, for up to a minute"
)


@dataclass(frozen=True)
class Words:
    """What the page says beside a picture."""

    text: str  # plain
    confidence: float | None = None  # in [0, 1]; None is not shown
    rate: float = 0.0  # frames/s; 0 is not shown
    recording: str = ""  # what is being recorded, or where to
    doubts: str = ""  # what else the user should know


class Page:
    """A page at this computer's own address that shows the last picture and its words, and says which keys were pressed.

    Args:
        port: 0 takes a free one.
        keys: key -> what it does.
        title, alt: of the page and of its picture.

    Raises:
        OSError: the port is taken, or there is none of this number.
    """

    def __init__(self, port: int, keys: Mapping[str, str], title: str, alt: str):
        self.keys, self.watched = keys, Event()
        self._html = _page(keys, title, alt)
        self._changed, self._shown, self._number, self._open, self._keys = Condition(), (b"", b""), 0, True, []
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                page.answer(self)

            def do_POST(self):
                page.press(self)

            def log_message(self, *_):
                pass

        try:
            self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:  # the latter: no port has such a number
            why = getattr(error, "strerror", None) or error
            raise OSError(f"port {port} cannot be used ({why}): another --port, or 0 for a free one") from error
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self.server.shutdown()
        self.server.server_close()

    def show(self, picture: UInt8[np.ndarray, "H W 3"], words: Words) -> None:
        """The next picture."""
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85)
        jpeg, told = file.getvalue(), json.dumps(asdict(words)).encode()
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        # browsers show a picture when its boundary comes: at once, not with the next picture
        picture_part = head.encode() + jpeg + b"\r\n" + BOUNDARY
        with self._changed:
            self._shown, self._number = (picture_part, b"data: " + told + b"\n\n"), self._number + 1
            self._changed.notify_all()

    def pressed(self) -> list[str]:
        """The keys since the last call."""
        with self._changed:
            keys, self._keys = self._keys, []
        return keys

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """A GET: the page, or the stream of pictures or of words until the page is closed on either side."""
        if request.path == "/":
            self._send(request, 200, self._html)
        elif request.path == "/stream":
            self.watched.set()
            self._stream(request, "multipart/x-mixed-replace; boundary=picture", 0, BOUNDARY)
        elif request.path == "/words":
            self._stream(request, "text/event-stream", 1)
        else:
            self._send(request, 404, b"nothing here")

    def _stream(self, request: BaseHTTPRequestHandler, kind: str, part: int, first: bytes = b"") -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Cache-Control", "no-store")
        request.end_headers()
        try:
            request.wfile.write(first)
            for shown in self._all_shown():
                request.wfile.write(shown[part])
        except OSError:  # the browser has gone
            return

    def _all_shown(self) -> Iterator[tuple[bytes, bytes]]:
        number = 0
        while True:
            with self._changed:
                if self._open and self._number == number:
                    self._changed.wait(WAIT_S)
                if not self._open and self._number == number:
                    return
                shown, number = self._shown, self._number
            if shown[0]:
                yield shown

    def press(self, request: BaseHTTPRequestHandler) -> None:
        """A POST: a key. One that another site's page sends is refused."""
        key, origin = request.path[1:], request.headers.get("Origin")
        if key not in self.keys or (origin is not None and urlsplit(origin).netloc != request.headers.get("Host")):
            self._send(request, 403, b"refused")
            return
        with self._changed:
            self._keys.append(key)
        self._send(request, 200, key.encode())

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def _page(keys: Mapping[str, str], title: str, alt: str) -> bytes:
    buttons = (
        f'<button value="{html.escape(key)}"><kbd>{html.escape(key)}</kbd>{html.escape(what)}</button>'
        for key, what in keys.items()
    )
    parts = {"TITLE": title, "ALT": alt, "WAITING": WAITING}
    filled = {name: html.escape(text) for name, text in parts.items()}
    filled |= {"KEYS": " ".join(buttons), "PANEL": f"rgb{PANEL}"}
    page = HTML
    for name, text in filled.items():
        page = page.replace(name, text)
    return page.encode()
