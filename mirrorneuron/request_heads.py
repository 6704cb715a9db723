"""Bounds the head of a request: its address and its headers.

The parser keeps what it is sent until the head has ended, and a stranger need not end it. The body has its
bound in `mirrorneuron.bounded`, where nothing is seen before the head is complete.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 128 * 1024
"""Bytes, give or take what arrives at once."""


class BoundedHeads(HttpToolsProtocol):
    beside_body = 0
    """Bytes since anything of a body came, or a request began or ended: of a head, or of trailers."""

    def on_message_begin(self) -> None:
        self.beside_body = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self.beside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.beside_body = 0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self.beside_body += len(data)
        super().data_received(data)
        if self.beside_body > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")
