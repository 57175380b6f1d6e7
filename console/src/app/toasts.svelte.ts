// Short messages in a corner; each may have one thing to do.

export interface Toast {
  id: number;
  tone: "good" | "bad" | "plain";
  text: string;
  href?: string;
  action?: { text: string; run: () => void };
}

const SHOWN_MS = 7_000;
const TOASTS_MAX = 4;

class Toasts {
  list = $state.raw<Toast[]>([]);
  private next = 1;

  add(toast: Omit<Toast, "id">, shownMs = SHOWN_MS): number {
    const id = this.next++;
    this.list = [...this.list, { id, ...toast }].slice(-TOASTS_MAX);
    if (shownMs) setTimeout(() => this.remove(id), shownMs);
    return id;
  }

  remove(id: number): void {
    this.list = this.list.filter((one) => one.id !== id);
  }
}

export const toasts = new Toasts();
