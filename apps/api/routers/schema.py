"""JSON Schemas of formats, readable by any editor without signing in."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from ninja import Router

from apps.blueprints.core.schema_export import blueprint_schema

router = Router(by_alias=True)


@router.get("/blueprint.json", auth=None, response={200: dict[str, Any]}, summary="The blueprint format")
def blueprint(request: HttpRequest) -> Any:
    return JsonResponse(blueprint_schema(), content_type="application/schema+json")
