from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "apps.agents"
    label = "agents"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.agents import handlers
        from apps.agents.tools.registry import CATALOG
        from apps.blueprints.ports import register_tool_catalog

        register_tool_catalog(CATALOG)
        handlers.register()
