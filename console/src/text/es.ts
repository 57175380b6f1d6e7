// Español: lo que dice la primera página. Ver ``en.ts``.

import type { FirstWords } from "./en.ts";

export const es: FirstWords = {
  skip: "Ir al contenido", nav: "Principal", nav_group: "Monitoreo", nav_home: "Soltar archivos", nav_batches: "Historial de Lotes",
  nav_gallery: "Galería", nav_system: "Sistema", nav_short_home: "Soltar", nav_short_batches: "Lotes", nav_short_gallery: "Galería",
  nav_short_system: "Sistema", link_connecting: "Conectando…", link_live: "En directo", link_reconnecting: "Reconectando…",
  link_offline: "Sin conexión", link_offline_at: "Sin conexión · datos de las {time}", palette: "Buscar y mandar",
  language_switch: "Switch to English", theme_switch: "Cambiar entre claro y oscuro",
  trouble_away: "El servidor no responde. Se le vuelve a preguntar en cuanto regrese.", home_title: "Soltar archivos",
  home_drop: "Suelta aquí archivos o carpetas", home_let_go: "Suéltalos: primero se revisan",
  home_types: "Facturas XML, PDF, fotos y CSV · en cualquier lugar de esta ventana · o pégalos", home_files: "Elegir archivos",
  home_folder: "Elegir una carpeta", home_name: "Nombre", home_name_hint: "opcional", priority: "Prioridad", priority_normal: "normal",
  priority_interactive: "urgente", priority_bulk: "en segundo plano",
};
