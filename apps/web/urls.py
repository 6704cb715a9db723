"""Addresses of the pages."""

from __future__ import annotations

from django.urls import path

from apps.web.views import (
    blueprints,
    gallery,
    home,
    inbox,
    recovery,
    reviews,
    runs,
    schedules,
    settings,
    sign_in,
    signals,
    trials,
    versions,
)
from apps.web.views.editor import fields as editor_fields
from apps.web.views.editor import history as editor_history
from apps.web.views.editor import outline as editor_outline
from apps.web.views.editor import pages as editor
from apps.web.views.editor import source as editor_source
from apps.web.views.editor import tabs as editor_tabs

app_name = "web"
urlpatterns = [
    path("", home.start, name="home"),
    path("sign-in", sign_in.form, name="sign-in"),
    path("sign-in/<str:secret>", sign_in.link, name="sign-in-link"),
    path("sign-out", sign_in.out, name="sign-out"),
    path("inbox", inbox.index, name="inbox"),
    path("inbox/<uuid:request_id>", inbox.item, name="inbox-item"),
    path("inbox/<uuid:request_id>/decision", inbox.decide, name="inbox-decide"),
    path("runs", runs.index, name="runs"),
    path("runs/<uuid:run_id>", runs.detail, name="runs-detail"),
    path("runs/<uuid:run_id>/graph", runs.graph, name="runs-graph"),
    path("runs/<uuid:run_id>/kill-worker", runs.kill_worker, name="runs-kill-worker"),
    path("runs/<uuid:run_id>/effects/<uuid:effect_id>", runs.effect, name="runs-effect"),
    *(
        path(f"runs/<uuid:run_id>/{verb}", recovery.recover, {"verb": verb}, name="runs-recover")
        for verb in recovery.VERBS
    ),
    path("runs/<uuid:run_id>/values/<str:hash>", runs.value, name="runs-value"),
    path("runs/<uuid:run_id>/signals/<str:name>", signals.send, name="runs-signal"),
    path("runs/<uuid:run_id>/<str:verb>", runs.control, name="runs-control"),
    path("schedules", schedules.index, name="blueprints-schedules"),
    path("schedules/new", schedules.add, name="blueprints-schedules-add"),
    path("schedules/<uuid:schedule_id>/<str:verb>", schedules.act, name="blueprints-schedules-act"),
    path("blueprints", blueprints.index, name="blueprints"),
    path("blueprints/new", editor.new, name="blueprints-new"),
    path("blueprints/<str:name>", blueprints.item, name="blueprints-item"),
    path("blueprints/<str:name>/edit", editor.edit, name="blueprints-edit"),
    path("blueprints/<str:name>/edit/news", editor_outline.news, name="blueprints-edit-news"),
    path("blueprints/<str:name>/edit/fix", editor_outline.fix, name="blueprints-edit-fix"),
    path("blueprints/<str:name>/edit/inspector", editor_fields.inspector, name="blueprints-edit-inspector"),
    path("blueprints/<str:name>/edit/field", editor_fields.field, name="blueprints-edit-field"),
    path("blueprints/<str:name>/edit/entry", editor_fields.entry, name="blueprints-edit-entry"),
    path("blueprints/<str:name>/edit/inputs", editor_tabs.inputs_preview, name="blueprints-edit-inputs"),
    path("blueprints/<str:name>/edit/source", editor_source.source, name="blueprints-edit-source"),
    path("blueprints/<str:name>/edit/states", editor_history.name_state, name="blueprints-edit-states"),
    path("blueprints/<str:name>/edit/restore", editor_history.restore, name="blueprints-edit-restore"),
    path("blueprints/<str:name>/edit/merge", editor_history.merge, name="blueprints-edit-merge"),
    path("blueprints/<str:name>/edit/discard", editor_history.discard, name="blueprints-edit-discard"),
    path("blueprints/<str:name>/edit/names", editor_fields.names, name="blueprints-edit-names"),
    path("blueprints/<str:name>/run", blueprints.run, name="blueprints-run"),
    path("blueprints/<str:name>/versions", versions.index, name="blueprints-versions"),
    path("blueprints/<str:name>/versions/<int:number>/restore", versions.restore, name="blueprints-restore"),
    path("blueprints/<str:name>/compare", versions.compare_page, name="blueprints-compare"),
    path("blueprints/<str:name>/publish", versions.publish, name="blueprints-publish"),
    path("blueprints/<str:name>/test", trials.test, name="blueprints-test"),
    path("blueprints/<str:name>/test/result", trials.result, name="blueprints-test-result"),
    path("blueprints/<str:name>/test/overlay", trials.overlay, name="blueprints-test-overlay"),
    path("blueprints/<str:name>/pins", trials.pin, name="blueprints-pins"),
    path("blueprints/<str:name>/fork", versions.fork, name="blueprints-fork"),
    path("blueprints/<str:name>/reviews", reviews.ask, name="blueprints-reviews"),
    path("blueprints/<str:name>/reviews/<uuid:review_id>", reviews.item, name="blueprints-review"),
    path(
        "blueprints/<str:name>/reviews/<uuid:review_id>/<str:verb>", reviews.act, name="blueprints-review-act"
    ),
    path("gallery", gallery.index, name="gallery"),
    path("gallery/<str:name>", gallery.item, name="gallery-item"),
    path("gallery/<str:name>/run", gallery.run, name="gallery-run"),
    path("gallery/<str:name>/run-own", gallery.run_own, name="gallery-run-own"),
    path("settings", settings.index, name="settings"),
    path("settings/time-zone", settings.time_zone, name="settings-time-zone"),
    path("settings/tokens", settings.create_token, name="settings-tokens"),
    path("settings/tokens/<uuid:token_id>/revoke", settings.revoke_token, name="settings-revoke"),
]
