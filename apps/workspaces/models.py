"""People, workspaces and what belongs to them. Every other object in the house hangs off a Workspace."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models

from apps.workspaces.core.roles import Role
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    date_joined = models.DateTimeField(default=now)

    objects = UserManager()
    USERNAME_FIELD = "email"

    def __str__(self) -> str:
        return self.name or self.email


class Workspace(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    time_zone = models.CharField(max_length=64, default="UTC")
    """Used by schedules and monthly budgets."""
    weight = models.IntegerField(default=1)
    """Its share of the workers when others want them too: with 2 it gets twice as much as with 1."""
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(weight__gte=1), name="workspace_weight_at_least_one")
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    roles = models.JSONField(default=list)
    """A set of `Role` values."""
    groups = models.JSONField(default=list, blank=True)
    """Names of groups that approvals are assigned to, such as `sales`."""
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "user"], name="one_membership")]

    @property
    def role_set(self) -> frozenset[Role]:
        return frozenset(Role(r) for r in self.roles)


class ApiToken(models.Model):
    """A bearer token; only its digest is stored, the secret is shown once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="tokens")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=12)
    """First characters of the secret, to recognise a token in a list."""
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list, blank=True)
    """Subset of Role values this token may use; empty means all its user has."""
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)


class SignInLink(models.Model):
    """A one-time, expiring link; GET shows a button, POST signs in."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)


class StoredFile(models.Model):
    """One uploaded or produced file; the bytes lie once under MN_DATA/files by content hash."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    media_type = models.CharField(max_length=120)
    size = models.BigIntegerField()
    created_at = models.DateTimeField(default=now)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)

    def as_value(self) -> dict[str, Any]:
        """The value a blueprint sees: `{id, name, sha256, media_type, size}`."""
        return {
            "id": str(self.id),
            "name": self.name,
            "sha256": self.sha256,
            "media_type": self.media_type,
            "size": self.size,
        }


class Connection(models.Model):
    """Credentials for one outside service, encrypted at rest, sent only to the declared hosts."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="connections")
    name = models.CharField(max_length=64)
    kind = models.CharField(max_length=32)
    sealed = models.BinaryField()
    """The secret fields as encrypted JSON."""
    hosts = models.JSONField(default=list)
    created_at = models.DateTimeField(default=now)
    rotated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="one_connection_name")]


class AuditEntry(models.Model):
    """What a person or a rule decided; append-only."""

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE)
    at = models.DateTimeField(default=now)
    actor = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    actor_label = models.CharField(max_length=254)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=254)
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["workspace", "-id"], name="audit_by_workspace")]
