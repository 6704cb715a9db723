"""Every address of the product: two doors, and the health of the process."""

from __future__ import annotations

from django.urls import include, path

from apps.api import health

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("api/v1/", include("apps.api.urls")),
    path("", include("apps.web.urls")),
]
