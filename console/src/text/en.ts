// English: what the first page says. ``one|many`` is chosen by ``n``; a key with a code at its end is that code's.

export const en = {
  skip: "Skip to content", nav: "Main", nav_group: "Monitoring", nav_home: "Drop files", nav_batches: "Batches", nav_gallery: "Gallery",
  nav_system: "System", nav_short_home: "Drop", nav_short_batches: "Batches", nav_short_gallery: "Gallery", nav_short_system: "System",
  link_connecting: "Connecting…", link_live: "Live", link_reconnecting: "Reconnecting…", link_offline: "Offline",
  link_offline_at: "Offline · data of {time}", palette: "Search and commands", language_switch: "Cambiar a español",
  theme_switch: "Light or dark", trouble_away: "The server does not answer. Trying again.",
  home_title: "Drop files", home_drop: "Drop files or folders here", home_let_go: "Let go to check them",
  home_types: "Invoices, PDF, photos, CSV: drop or paste", home_files: "Choose files",
  home_folder: "Choose folder", home_name: "Name", home_name_hint: "optional", priority: "Priority", priority_normal: "normal",
  priority_interactive: "urgent", priority_bulk: "background",
};

export type FirstWords = Record<keyof typeof en, string>;
