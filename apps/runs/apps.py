from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "apps.runs"
    label = "runs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.runs import handlers, sensor, subflows

        handlers.register()
        sensor.register()
        subflows.register()
