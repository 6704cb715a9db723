from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    name = "apps.approvals"
    label = "approvals"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.approvals.desk import Desk
        from apps.approvals.handler import approval
        from apps.runs.ports import register_desk, register_handler

        register_desk(Desk())
        register_handler("approval", approval)
