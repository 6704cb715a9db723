"""Errors of people and what belongs to them.

MirrorNeuronError
├── WorkspaceNotFound    (NotFound)      no such workspace, or not for this person
├── FileNotFound         (NotFound)      no such file in this workspace
├── ConnectionNotFound   (NotFound)      a tool needs a connection this workspace has not filled in
├── LinkUnusable         (Conflict)      a one-time link was used, has expired or never existed
├── FileTooLarge         (TooLarge)      over the limit for one file
├── FileBytesMissing     (Unavailable)   the row is there, the bytes under MN_DATA/files are not
└── ConnectionUnreadable (ConfigurationError)   sealed with another MN_SECRET_KEY
"""

from __future__ import annotations

from mirrorneuron.base.errors import ConfigurationError, Conflict, NotFound, TooLarge, Unavailable


class WorkspaceNotFound(NotFound):
    code = "workspace_not_found"


class FileNotFound(NotFound):
    code = "file_not_found"


class ConnectionNotFound(NotFound):
    code = "connection_not_found"


class LinkUnusable(Conflict):
    code = "link_unusable"


class FileTooLarge(TooLarge):
    code = "file_too_large"


class FileBytesMissing(Unavailable):
    code = "file_bytes_missing"


class ConnectionUnreadable(ConfigurationError):
    code = "connection_unreadable"
