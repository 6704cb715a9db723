"""Everything under `/api/v1`."""

from __future__ import annotations

from apps.api.build import build
from apps.api.build import urlpatterns as patterns_of

app_name = "api"
urlpatterns = patterns_of(build())
