"""Owns cameras on loopback, each a process of its own that can be paused and killed: Motion JPEG by HTTP, and RTSP.

    python -m tests.camera_servers http|https|rtsp|rtsps PORT USER PASSWORD Basic|Digest CERTIFICATE

Lines on stdin change what it shows: ``live``, ``frozen``, ``black``, ``garbage``, ``silent``, ``hangup``, ``hiccup``
(every connection ends after five pictures) or a size such as ``200x120``; RTSP forwards what an ffmpeg encoder sends
and knows ``live`` alone. An empty user lets everybody in; CERTIFICATE has the key too, and is for TLS.
"""

import base64
import contextlib
import hashlib
import http.server
import queue
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZE, SIDEWAYS = (160, 120), (120, 160)
PERIOD_S = 0.05


class CameraServer:
    """A camera process on ``port``; ``start`` again after ``kill``."""

    def __init__(
        self,
        kind: str = "http",
        port: int = 0,
        credentials: tuple[str, str] = ("", ""),
        *,
        scheme: str = "Basic",
        certificate: Path | None = None,
    ) -> None:
        self.kind = kind
        self.port = port or free_port()
        self.credentials = credentials
        self._words = (scheme, str(certificate or ""))
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it is, without user and password."""
        return f"{self.kind}://127.0.0.1:{self.port}/camera"

    def __enter__(self) -> "CameraServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, shows: str = "live") -> "CameraServer":
        """Start it; returns when it can be connected to."""
        words = (self.kind, str(self.port), *self.credentials, *self._words)
        command = [sys.executable, "-m", "tests.camera_servers", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.show(shows)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"
        return self

    def show(self, what: str) -> None:
        """Change what it shows."""
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def pause(self) -> None:
        """Stop it as it is: connections stay open and nothing comes."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- inside the process --------------------------------------------------------------------------------------------


class _Scene:
    """What the camera shows now."""

    def __init__(self) -> None:
        self.shows = "live"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self.shows = line.strip()

    def jpeg(self, number: int) -> bytes:
        width, height = map(int, self.shows.split("x")) if "x" in self.shows else SIZE
        seed = 0 if self.shows == "frozen" else number
        image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
        data = cv2.imencode(".jpg", np.zeros_like(image) if self.shows == "black" else image)[1].tobytes()
        return bytes(len(data)) if self.shows == "garbage" else data


class _Guard:
    """Lets in who knows user and password."""

    def __init__(self, user: str, password: str, scheme: str) -> None:
        self._user, self._password, self._scheme = user, password, scheme

    @property
    def challenge(self) -> str:
        return f'{self._scheme} realm="camera"' + (', nonce="5eed", algorithm="MD5"' * (self._scheme == "Digest"))

    def lets_in(self, verb: str, header: str | None) -> bool:
        if not self._user:
            return True
        scheme, _, said = (header or "").partition(" ")
        if scheme != self._scheme:
            return False
        if scheme == "Basic":
            return said == base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="([^"]*)"', said))
        secret = _md5(f"{self._user}:camera:{self._password}")
        asked = _md5(f"{verb}:{fields.get('uri')}")
        wanted = _md5(f"{secret}:5eed:{asked}")
        return fields.get("username") == self._user and fields.get("response") == wanted


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class _Tls:
    """Speaks TLS where there is a certificate, each connection's handshake in its own thread."""

    context: ssl.SSLContext | None = None

    def get_request(self) -> Any:
        connection, address = super().get_request()  # type: ignore[misc]
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients hang up."""


def _context(certificate: str) -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def serve_http(port: int, guard: _Guard, certificate: str) -> None:
    """Serve Motion JPEG."""
    scene = _Scene()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            if not guard.lets_in("GET", self.headers.get("Authorization")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", guard.challenge)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            number = 0
            while scene.shows != "hangup" and not (scene.shows == "hiccup" and number >= 5):
                time.sleep(PERIOD_S)
                if scene.shows != "silent":
                    data = scene.jpeg(number := number + 1)
                    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")

    class Server(_Tls, http.server.ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", port), Handler)
    server.context = _context(certificate)
    print("ready", flush=True)
    server.serve_forever()


def serve_rtsp(port: int, guard: _Guard, certificate: str) -> None:
    """Serve what an ffmpeg encoder sends as RTP to this process, interleaved in TCP."""
    relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    relay.bind(("127.0.0.1", 0))
    description = Path(tempfile.mkdtemp()) / "camera.sdp"
    size, rate = f"{SIZE[0]}x{SIZE[1]}", round(1 / PERIOD_S)
    encoder = subprocess.Popen(
        f"setpriv --pdeathsig KILL ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=s={size}:r={rate}"
        f" -c:v mpeg4 -g 10 -f rtp -sdp_file {description} rtp://127.0.0.1:{relay.getsockname()[1]}".split()
    )
    clients: set[queue.Queue[bytes]] = set()

    def forward() -> None:
        while encoder.poll() is None:
            packet = relay.recv(65536)
            for client in list(clients):
                with contextlib.suppress(queue.Full):
                    client.put_nowait(b"$\0" + len(packet).to_bytes(2) + packet)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self.rfile.readline().decode(errors="replace").split():
                head = {}
                while line := self.rfile.readline().decode(errors="replace").strip():
                    key, _, value = line.partition(":")
                    head[key.lower()] = value.strip()
                if self._answer(request[0], head) and request[0] == "PLAY":
                    return self._play()

        def _play(self) -> None:
            """Send until the client hangs up; what it says meanwhile is not heard."""
            packets: queue.Queue[bytes] = queue.Queue(100)
            clients.add(packets)
            try:
                while True:
                    self.connection.sendall(packets.get())
            except OSError:
                clients.discard(packets)

        def _answer(self, verb: str, head: dict[str, str]) -> bool:
            status, more, body = "200 OK", "", b""
            allowed = verb == "OPTIONS" or guard.lets_in(verb, head.get("authorization"))
            if not allowed:
                status, more = "401 Unauthorized", f"WWW-Authenticate: {guard.challenge}\r\n"
            elif verb == "DESCRIBE":
                body = description.read_bytes()
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif verb == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif verb == "PLAY":
                more = "Session: 1\r\n"
            text = f"RTSP/1.0 {status}\r\nCSeq: {head.get('cseq', '0')}\r\n{more}\r\n"
            self.wfile.write(text.encode() + body)
            return allowed

    class Server(_Tls, socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    relay.recv(65536)  # the encoder has begun, and written its description
    threading.Thread(target=forward, daemon=True).start()
    server = Server(("127.0.0.1", port), Handler)
    server.context = _context(certificate)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    kind, where, *secret, pem = sys.argv[1:]
    {"http": serve_http, "rtsp": serve_rtsp}[kind.rstrip("s")](int(where), _Guard(*secret), pem)
