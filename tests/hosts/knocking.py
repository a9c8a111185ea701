"""What a stranger on the network does to a host, as a program: asks ports with nothing, with a wrong token, and as a
web page elsewhere would. Reads [[port, kind, path], ...] from stdin, prints what each was answered in which manner.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

import grpc

WRONG = "Bearer " + "b" * 64
BROWSER = {"User-Agent": "Mozilla/5.0", "Sec-Fetch-Mode": "cors"}
MANNERS: dict[str, dict[str, str]] = {
    "nothing": {},
    "wrong token": {"Authorization": WRONG},
    "foreign Host": {**BROWSER, "Host": "evil.example"},
    "foreign Origin": {**BROWSER, "Origin": "http://evil.example"},
}
TIMEOUT_S = 20


def http(host: str, port: int, kind: str, path: str, headers: dict[str, str]) -> str:
    data = b'{"entrypoint": "touch /tmp/broken-in"}' if kind == "POST" else None
    request = urllib.request.Request(f"http://{host}:{port}{path}", data, headers, method=kind)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except (OSError, ValueError) as error:
        return type(getattr(error, "reason", error)).__name__


def call(host: str, port: int, path: str, headers: dict[str, str]) -> str:
    """One gRPC call with an empty message: the token is looked at before the message is."""
    metadata = [(key.lower(), value) for key, value in headers.items() if key != "Host"]
    options = [("grpc.default_authority", headers["Host"])] if "Host" in headers else []
    with grpc.insecure_channel(f"{host}:{port}", options) as channel:
        try:
            channel.unary_unary(path)(b"", timeout=TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def main() -> None:
    told = []
    for port, kind, path in json.load(sys.stdin):
        knock = call if kind == "grpc" else http
        words = (path,) if kind == "grpc" else (kind, path)
        told.append({manner: knock(sys.argv[1], port, *words, headers) for manner, headers in MANNERS.items()})
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main()
