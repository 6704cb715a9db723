"""Django's settings, derived from `mirrorneuron.config`; nothing is read from the environment here."""

from __future__ import annotations

import contextlib
import secrets
import warnings
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mirrorneuron.base import crash
from mirrorneuron.base.errors import ConfigurationError
from mirrorneuron.base.logs import logging_config
from mirrorneuron.config import config, make_private

CONFIG = config()
BASE_DIR = Path(__file__).resolve().parent.parent
if CONFIG.crash_at:
    crash.arm(CONFIG.crash_at)


def _secret_key() -> str:
    given = CONFIG.secret_key.get_secret_value()
    if given:
        return given
    if not CONFIG.is_sqlite:
        raise ConfigurationError(
            "MN_SECRET_KEY is empty, but DATABASE_URL names a server.",
            next="Set MN_SECRET_KEY (or MN_SECRET_KEY_FILE) to one long random text, equal in all processes.",
        )
    path = CONFIG.data / "secret.key"
    try:
        make_private(CONFIG.data)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(48))
        return path.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(
            f"The data folder {CONFIG.data} cannot be written ({exc.strerror}).",
            next="Choose another with --data or MN_DATA, or make it writable.",
        ) from exc


def _private_file(name: str) -> str:
    """A file of the data folder, made for its owner only; what SQLite puts beside it gets the same rights."""
    path = CONFIG.data / name
    # A folder that cannot be written is refused in words where it is first needed.
    with contextlib.suppress(OSError):
        make_private(CONFIG.data)
        path.touch(mode=0o600, exist_ok=False)
    return str(path)


def _database() -> dict:
    if CONFIG.is_sqlite:
        name = CONFIG.database_url.removeprefix("sqlite://") or _private_file("mirrorneuron.sqlite3")
        return {
            "ENGINE": "mirrorneuron.base.sqlite",
            "NAME": name,
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=20000;"
                    "PRAGMA foreign_keys=ON; PRAGMA mmap_size=134217728;"
                    "PRAGMA journal_size_limit=27103364; PRAGMA cache_size=-20000;"
                ),
            },
            "TEST": {"NAME": str(CONFIG.data / "test.sqlite3")},
        }
    url = urlsplit(CONFIG.database_url)
    return {
        "ENGINE": "mirrorneuron.base.postgres",
        "NAME": unquote(url.path.lstrip("/")),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": unquote(url.hostname or ""),
        "PORT": str(url.port or ""),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "application_name": "mirrorneuron",
            # A server that is gone without a word is noticed in seconds, not after the system's two hours.
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
            **dict(parse_qsl(url.query)),
        },
    }


SECRET_KEY = _secret_key()
DEBUG = CONFIG.debug
ALLOWED_HOSTS = CONFIG.hosts
CSRF_TRUSTED_ORIGINS = [CONFIG.base_url.rstrip("/")] if CONFIG.base_url else []
ROOT_URLCONF = "mirrorneuron.urls"
ASGI_APPLICATION = "mirrorneuron.asgi.application"
DATABASES = {"default": _database()}
AUTH_USER_MODEL = "workspaces.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
LOGGING = logging_config(CONFIG.log_level, CONFIG.log_format)
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "ninja",
    "apps.workspaces",
    "apps.ledger",
    "apps.blueprints",
    "apps.governance",
    "apps.runs",
    "apps.agents",
    "apps.approvals",
    "apps.evaluations",
    "apps.api",
    "apps.web",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "apps.web.middleware.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apps.web.middleware.CurrentWorkspace",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.web.context.shell",
            ]
        },
    }
]
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [CONFIG.channel_url]},
    }
    if CONFIG.channel_url
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

STATIC_URL = "/static/"
_collected = BASE_DIR / "static" / "root"
STATIC_ROOT = _collected if _collected.is_dir() else None
"""Filled by `collectstatic` in an image; elsewhere files are served from where they lie."""
_built = BASE_DIR / "static" / "dist"
STATICFILES_DIRS = [BASE_DIR / "static" / "src", *([("dist", _built)] if _built.is_dir() else [])]
"""Ours, and what `mirrorneuron.assets` has built; without the latter only the editor's canvas is missing."""
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/static/dist/.+-[A-Z0-9]{8}\."
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
# whitenoise hands files over as a plain iterator; under ASGI it is read in a thread, which is what we want.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CONFIG.base_url.startswith("https://")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = 200
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
GALLERY_DIR = BASE_DIR / "blueprints"
