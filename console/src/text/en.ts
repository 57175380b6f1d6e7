// English: what the first page says. ``one|many`` is chosen by ``n``; a key with a code at its end is that code's.

export const en = {
  skip: "Skip to the content", nav: "Main", nav_group: "Monitoring", nav_home: "Drop files", nav_batches: "Batches", nav_gallery: "Gallery",
  nav_system: "System", nav_short_home: "Drop", nav_short_batches: "Batches", nav_short_gallery: "Gallery", nav_short_system: "System",
  link_connecting: "Connecting…", link_live: "Live", link_reconnecting: "Reconnecting…", link_offline: "Offline",
  link_offline_at: "Offline · data of {time}", palette: "Search and commands", language_switch: "Cambiar a español",
  theme_switch: "Switch light and dark", trouble_away: "The server does not answer. Trying again.",
  home_title: "Drop files", home_drop: "Drop files or folders here", home_let_go: "Let go to have them checked",
  home_types: "XML invoices, PDF, photos, CSV · anywhere here, or paste", home_files: "Choose files",
  home_folder: "Choose a folder", home_name: "Name", home_name_hint: "optional", priority: "Priority", priority_normal: "normal",
  priority_interactive: "urgent", priority_bulk: "in the background",
};

export type FirstWords = Record<keyof typeof en, string>;
