"""Small drawings, 16 by 16, stroked in the colour of the text beside them."""

from __future__ import annotations

ICONS: dict[str, str] = {
    "inbox": '<path d="M2.5 9.5 4 3.5h8l1.5 6v3h-11zM2.5 9.5h3l1 1.5h3l1-1.5h3"/>',
    "runs": '<path d="M2.5 4h6M5 8h6M8 12h5.5"/>',
    "blueprints": '<path d="M2.5 3h4v4h-4zM9.5 9h4v4h-4zM6.5 5h3.5a1.5 1.5 0 0 1 1.5 1.5V9"/>',
    "gallery": '<path d="M2.5 2.5h4.5V7H2.5zM9 2.5h4.5V7H9zM2.5 9H7v4.5H2.5zM9 9h4.5v4.5H9z"/>',
    "settings": (
        '<path d="M2.5 4.5h6M11.5 4.5h2M2.5 11.5h2M7.5 11.5h6"/>'
        '<circle cx="10" cy="4.5" r="1.5"/>'
        '<circle cx="6" cy="11.5" r="1.5"/>'
    ),
    "check": '<path d="m3 8.5 3.2 3.2L13 4.8"/>',
    "cross": '<path d="m4 4 8 8M12 4l-8 8"/>',
    "clock": ('<circle cx="8" cy="8" r="5.5"/><path d="M8 5v3.2l2 1.3"/>'),
    "pause": '<path d="M5.5 3.5v9M10.5 3.5v9"/>',
    "play": '<path d="M5 3.5v9l7-4.5z"/>',
    "stop": ('<circle cx="8" cy="8" r="5.5"/><path d="m4.2 4.2 7.6 7.6"/>'),
    "dots": '<path d="M3.5 8h.01M8 8h.01M12.5 8h.01"/>',
    "dot": '<circle cx="8" cy="8" r="2.5"/>',
    "question": '<path d="M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6M8 12.4h.01"/>',
    "skip": '<path d="M3 5.5c3-2.5 7-2 8.5 2.5M12.5 4.5 11.5 8.2 8 7.3"/>',
    "back": '<path d="M6 3.5 2.8 6.7 6 9.9M3 6.7h6a3.5 3.5 0 0 1 0 7H7"/>',
    "undo": '<path d="M6 3.5 2.8 6.7 6 9.9M3 6.7h6.5a3.3 3.3 0 0 1 0 6.6H6"/>',
    "redo": '<path d="M10 3.5 13.2 6.7 10 9.9M13 6.7H6.5a3.3 3.3 0 0 0 0 6.6H10"/>',
    "pin": '<path d="M6 2.8h4M6.6 3v4L4.8 9.5h6.4L9.4 7V3M8 9.5v4"/>',
    "plus": '<path d="M8 3v10M3 8h10"/>',
    "person": ('<circle cx="8" cy="5.5" r="2.5"/><path d="M3 13.5c.6-2.6 2.5-4 5-4s4.4 1.4 5 4"/>'),
    "bolt": '<path d="M8.8 2 4 9h3.5L7 14l5-7.2H8.5z"/>',
    "chevron": '<path d="m6 4 4 4-4 4"/>',
    "file": '<path d="M4 2.5h5l3 3v8H4zM9 2.5v3h3"/>',
    "write": '<path d="M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3z"/>',
    "read": (
        '<path d="M1.8 8S4 3.8 8 3.8 14.2 8 14.2 8 12 12.2 8 12.2 1.8 8 1.8 8z"/>'
        '<circle cx="8" cy="8" r="1.8"/>'
    ),
    "model": '<path d="M8 2.5 9.4 6.6 13.5 8 9.4 9.4 8 13.5 6.6 9.4 2.5 8l4.1-1.4z"/>',
    "plug": '<path d="M6 2.5v3M10 2.5v3M4.5 5.5h7V8a3.5 3.5 0 0 1-7 0zM8 11.5v2.5"/>',
    "warning": '<path d="M8 2.8 14 13H2zM8 6.5v3M8 11.3h.01"/>',
}
