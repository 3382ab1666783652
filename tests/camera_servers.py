"""Owns cameras on loopback, each a process of its own that can be paused and killed: Motion JPEG by HTTP, and RTSP.

    python -m tests.camera_servers http|rtsp PORT [USER PASSWORD]

Lines on stdin change what it shows: ``live``, ``frozen``, ``black``, ``garbage``, ``silent``, ``hangup`` or a size
such as ``200x120``; RTSP forwards what an ffmpeg encoder sends it and knows ``live`` alone.
"""

import base64
import http.server
import signal
import socket
import socketserver
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

    def __init__(self, kind: str = "http", port: int = 0, credentials: tuple[str, str] = ("", "")) -> None:
        self.kind = kind
        self.port = port or free_port()
        self.credentials = credentials
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
        command = [sys.executable, "-m", "tests.camera_servers", self.kind, str(self.port), *self.credentials]
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


def serve_http(port: int, credentials: tuple[str, str]) -> None:
    """Serve Motion JPEG, with Basic authentication where there is a user."""
    scene = _Scene()
    wanted = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            if credentials[0] and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            number = 0
            while scene.shows != "hangup":
                time.sleep(PERIOD_S)
                if scene.shows != "silent":
                    data = scene.jpeg(number := number + 1)
                    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing: clients hang up."""

    server = Server(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


def serve_rtsp(port: int, credentials: tuple[str, str]) -> None:
    """Serve what an ffmpeg encoder sends as RTP to this process, interleaved in TCP."""
    wanted = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
    relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    relay.bind(("127.0.0.1", 0))
    description = Path(tempfile.mkdtemp()) / "camera.sdp"
    size, rate = f"{SIZE[0]}x{SIZE[1]}", round(1 / PERIOD_S)
    encoder = subprocess.Popen(
        f"setpriv --pdeathsig KILL ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=s={size}:r={rate}"
        f" -c:v mpeg4 -g 10 -f rtp -sdp_file {description} rtp://127.0.0.1:{relay.getsockname()[1]}".split()
    )
    clients: set[socket.socket] = set()

    def forward() -> None:
        while encoder.poll() is None:
            packet = relay.recv(65536)
            for client in list(clients):
                try:
                    client.sendall(b"$\0" + len(packet).to_bytes(2) + packet)
                except OSError:
                    clients.discard(client)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self.rfile.readline().decode(errors="replace").split():
                head = {}
                while line := self.rfile.readline().decode(errors="replace").strip():
                    key, _, value = line.partition(":")
                    head[key.lower()] = value.strip()
                self._answer(request[0], head)
            clients.discard(self.connection)

        def _answer(self, verb: str, head: dict[str, str]) -> None:
            status, more, body = "200 OK", "", b""
            if credentials[0] and verb != "OPTIONS" and head.get("authorization") != wanted:
                status, more = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
            elif verb == "DESCRIBE":
                body = description.read_bytes()
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif verb == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif verb == "PLAY":
                more = "Session: 1\r\n"
            text = f"RTSP/1.0 {status}\r\nCSeq: {head.get('cseq', '0')}\r\n{more}\r\n"
            self.wfile.write(text.encode() + body)
            if verb == "PLAY":
                clients.add(self.connection)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing: clients hang up."""

    relay.recv(65536)  # the encoder has begun, and written its description
    threading.Thread(target=forward, daemon=True).start()
    server = Server(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    kind, where, *secret = sys.argv[1:]
    {"http": serve_http, "rtsp": serve_rtsp}[kind](int(where), (secret[0], secret[1]) if secret else ("", ""))
