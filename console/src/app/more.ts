// What everything but the first screen needs, beside its words: the other icons, and the page kept for when the
// gateway is away.

import { addIcons } from "../parts/Icon.svelte";

// States have shapes of their own, so that none needs its colour.
addIcons({
  completed: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM8 12.5l2.7 2.7L16.2 9.5",
  failed: "M8.3 3h7.4L21 8.3v7.4L15.7 21H8.3L3 15.7V8.3ZM9 9l6 6M15 9l-6 6",
  rejected: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM5.7 5.7l12.6 12.6",
  processing: "M12 3a9 9 0 1 0 9 9",
  queued: "M12 3v.01M16.5 4.2v.01M19.8 7.5v.01M21 12v.01M19.8 16.5v.01M16.5 19.8v.01M12 21v.01M7.5 19.8v.01M4.2 16.5v.01M3 12v.01M4.2 7.5v.01M7.5 4.2v.01",
  waiting: "M7 3h10M7 21h10M8 3v4l4 5-4 5v4M16 3v4l-4 5 4 5v4",
  retrying: "M20 12a8 8 0 1 1-2.6-5.9M20 3v4.5h-4.5",
  cancelled: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM8 12h8",
  paused: "M9 5v14M15 5v14",
  open: "M12 16V4M7 9l5-5 5 5M4 20h16",
  completed_with_errors: "M12 3.5 22 20H2ZM12 10v4.5M12 17.2v.01",
  download: "M12 4v11M7 10.5l5 5 5-5M4 20h16",
  play: "M7 4.5v15l12-7.5Z",
  close: "M6 6l12 12M18 6 6 18",
  right: "M9 5l7 7-7 7",
  left: "M15 5l-7 7 7 7",
  down: "M5 9l7 7 7-7",
  lock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
});

// Only where the page is served securely.
void navigator.serviceWorker?.register("/console/offline.js", { scope: "/" }).catch(() => undefined);
