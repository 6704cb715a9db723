"""Websocket addresses (SPEC section 3)."""

from __future__ import annotations

from django.urls import path

from apps.web.consumers import InboxSocket, RunSocket
from apps.web.draft_socket import DraftSocket

websocket_urlpatterns = [
    path("ws/runs/<uuid:run_id>", RunSocket.as_asgi()),
    path("ws/drafts/<uuid:draft_id>", DraftSocket.as_asgi()),
    path("ws/inbox", InboxSocket.as_asgi()),
]
