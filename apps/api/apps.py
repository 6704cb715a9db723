from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "apps.api"
    label = "api"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.api.idempotency import forget_old
        from apps.runs.chores import register_chore

        register_chore("answers", forget_old)
