"""Settings of the tables that every step writes, on PostgreSQL; see `apps.runs.hot_tables`."""

from django.db import migrations


def apply(_apps, _schema_editor):
    from apps.runs import hot_tables

    hot_tables.apply()


class Migration(migrations.Migration):
    dependencies = [("runs", "0002_initial")]
    operations = [migrations.RunPython(apply, migrations.RunPython.noop, elidable=False)]
